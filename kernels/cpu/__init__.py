"""The kernels for any CPU, compiled by Numba."""
