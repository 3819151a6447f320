"""The commands of emotion-calibrate, one module each.

`add_parser` adds a command's parser. `run` runs it and returns the exit code.
"""
