"""Stage `downstream`: train the same network on each arm's slices, test it on test patients."""
