"""Stage: sample synthetic slices from a trained generator, or read them from a folder."""
