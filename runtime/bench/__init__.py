"""`emotion-bench`: the latency of this machine, measured from capture to result.

`__main__` is the command line and `session` runs what it asks for. Nothing in the runtime imports
this folder, so its door exports nothing.
"""
