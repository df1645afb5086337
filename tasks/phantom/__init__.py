"""Stage: simulate patients with brain tumours, as DICOM and NIfTI, for the demo and the tests."""
