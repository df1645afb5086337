"""Stage `downstream`: train the same network on each arm's slices, judge it on test patients."""
