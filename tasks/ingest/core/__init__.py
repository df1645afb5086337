"""What every package of ingest shares: files and scans as records, volumes, MR contrasts,
placeholders of names, and the codes and texts of rejections. It may import no other package of
ingest; the type of a scan's headers is imported for type checking only.
"""
