"""Stage `lift`: what each arm gained over `real`, with its interval, and what may be claimed."""
