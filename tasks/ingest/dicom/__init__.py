"""DICOM: headers and attributes, series and their geometry, pixels, segmentations and structure
sets. It may import `core` and `masks`.
"""
