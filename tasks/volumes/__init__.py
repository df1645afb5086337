"""A patient's volumes as `slices` and `downstream` need them: sessions, greys in [-1, 1], slices.

It reads what `ingest` wrote (`data/volumes`) and knows nothing of splits or of networks.
"""
