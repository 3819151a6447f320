"""Estimates on a monitor, without a desktop."""
