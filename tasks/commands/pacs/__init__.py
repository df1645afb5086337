"""Bring scans from a PACS and send releases to one: DIMSE (pynetdicom) and DICOMweb."""
