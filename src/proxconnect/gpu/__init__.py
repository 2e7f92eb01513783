"""Kernels for GPUs, written in Triton. They know numbers and tensors, not layers."""
