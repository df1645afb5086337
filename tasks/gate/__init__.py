"""Stage `gate`: synthetic slices beside real ones of patients the generator never saw."""
