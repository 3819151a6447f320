"""One module per command of emotion-calibrate: `add_parser`, and `run`, which returns the exit
code."""
