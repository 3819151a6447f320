"""The sensors of the machine."""
