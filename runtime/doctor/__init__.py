"""emotion-edge doctor: what a run needs, checked."""
