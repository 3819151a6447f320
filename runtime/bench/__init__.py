"""What `emotion-bench` measures: scenarios, the recorder, figures, networks alone."""
