"""Stage `lift`: compute each arm's gain over `real`, with intervals, and what may be claimed."""
