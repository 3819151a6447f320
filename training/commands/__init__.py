"""What `emotion-train` can do: one module per command, each with `add_parser` and `run`."""
