"""The kernels for NVIDIA GPUs, compiled by Numba."""
