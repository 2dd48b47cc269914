"""Fused kernels and GEMM for NVIDIA GPUs, through CuPy."""
