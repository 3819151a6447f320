"""One window in, one estimate out: the hot path."""
