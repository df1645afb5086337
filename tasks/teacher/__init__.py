"""Stage `teacher`: ask networks that saw the outlined slices about those without outlines."""
