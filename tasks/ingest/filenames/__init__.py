"""The parsing of the names of NIfTI files and 2D images into patient, visit, role and contrast, by
layouts, by words, by IDs and by folders. It may import `core`.
"""
