"""The preprocessor for NVIDIA GPUs, compiled by Numba.

Only `kernels.open_preprocessor` opens it.
"""
