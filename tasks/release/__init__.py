"""Stage `release`: write the accepted slices as a marked data set, or a refusal with reasons."""
