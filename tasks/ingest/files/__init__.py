"""The files of a batch: their list, their formats, zip archives, and the index of DICOM files on
disk. It may import `core` and `privacy`.
"""
