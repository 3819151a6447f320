"""Data sets: each module reads one, in the layout its authors publish it in."""
