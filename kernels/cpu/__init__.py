"""The preprocessor for any CPU, compiled by Numba. Only `kernels.open_preprocessor` opens it."""
