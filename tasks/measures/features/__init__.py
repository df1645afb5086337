"""Network features of images, and distances between sets of features.

`feature_extraction` runs the bundled network, `external_feature_networks` loads others from files.
`frechet`, `kid` and `prdc` compare sets of features, `feature_distances` finds nearest rows. The
modules may import each other, `models` and `tasks.stage.errors`.
"""
