"""Masks from any format: which image a mask belongs to, which segments and label values are tumour,
contours as voxels, the image's grid, and the checks that a mask is plausible. It may import `core`,
`filenames` and `user_tables`.
"""
