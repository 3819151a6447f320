"""How late results are, and who may read it."""
