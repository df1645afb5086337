"""Stage `pool`: choose the slices that each arm adds to every fold's training slices."""
