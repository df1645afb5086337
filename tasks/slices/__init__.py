"""Stage `slices`: canonical volumes become position-matched slices, split by patient."""
