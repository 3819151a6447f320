"""Commands of `emotion-train`: one module each, with `add_parser` and `run`."""
