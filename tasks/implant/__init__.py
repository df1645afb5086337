"""Stage `implant`: paint tumours into real slices without one, for the arms that add them."""
