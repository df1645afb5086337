"""Train a network on slices: which slices make a batch, how they are augmented, one training run.

`downstream` and `teacher` use it, with the same recipe. It imports `tasks.params`.
"""
