"""NIfTI: the scans of a batch by the names of their files, the choice of the affine, and the
reading of volumes. It may import `core`, `filenames` and `user_tables`.
"""
