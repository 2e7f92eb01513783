"""Kernels for GPUs, written in Triton, which is imported when a kernel first runs."""
