"""The conversion of one patient's scans to volumes, masks and rows of the manifest. It may import
`core`, `dicom`, `images2d`, `masks`, `nifti`, `patients` and `preprocessing`.
"""
