"""The tables between the stages as pandera schemas: one a file, named in DESIGN's vocabulary."""
