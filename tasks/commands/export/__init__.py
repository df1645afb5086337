"""Commands `auglift generate` and `auglift export`: slices on demand, packages for other tools."""
