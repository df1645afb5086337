"""The tables in which a batch's owner describes the batch: `files.csv`, its older forms and
`participants.tsv`, read together by `owner_tables`. It may import `core` and `privacy`.
"""
