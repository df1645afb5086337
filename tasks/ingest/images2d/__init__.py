"""PNG, JPEG and TIFF: the scans of a batch by names, class folders and tables, and the reading of
grey values. It may import `core`, `files`, `filenames` and `user_tables`.
"""
