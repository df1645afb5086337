"""What keeps names on this machine: pseudonyms as keyed hashes, and the folder `.private/` with its
tables. It may import no other package of ingest.
"""
