"""Stage: train a conditional DCGAN on the training slices of a fold."""
