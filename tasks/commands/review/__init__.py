"""The reader study: a local page on which readers rate real and synthetic slices, blinded."""
