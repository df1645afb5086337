"""What several stages share beside files: slice sets, arms, the torch set-up, contact sheets."""
