"""The patient of each file, and each patient's images and masks once the headers are read. It may
import `core`, `dicom`, `files`, `privacy` and `user_tables`, and the module `worker_pool`.
"""
