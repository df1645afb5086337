"""Stage `slices`: turn canonical volumes into position-matched slices, split by patient."""
