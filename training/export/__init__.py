"""Trained networks to a bundle."""
