"""The command `auglift scan BATCH`: list the patients of a batch and propose its `files.csv`."""
