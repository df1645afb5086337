"""What a trained generator is good for later: slices on demand, packages for other tools."""
