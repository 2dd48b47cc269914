"""Fused kernels and matrix products for NVIDIA GPUs, through CuPy."""
