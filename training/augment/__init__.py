"""What may change in a recording without changing its label, and what corrupts it."""
