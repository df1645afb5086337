"""A patient's volumes as `slices` and `downstream` need them: sessions, greys in [-1, 1], slices.

The package reads what `ingest` wrote (`data/volumes`). It imports nothing of splits or networks.
"""
