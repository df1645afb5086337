"""The stage `ingest`: scans of hospitals and archives to NIfTI volumes, masks and two tables.

`__main__` runs the stage, `discover` finds the patients of a batch, `worker_pool` spreads work over
processes. The packages below hold the rest; each says in one paragraph what it holds and which of
the others it may import (tests/test_import_rules.py holds it to that).
"""
