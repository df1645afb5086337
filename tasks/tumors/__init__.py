"""Tumours for slices without one: which slices these are, and where a deformed tumour fits.

`pool` pastes tumours there, `implant` paints them. It imports `tasks.schemas`.
"""
