"""The commands of emotion-edge beside run."""
