"""Kernels: compiled without a GPU, timed with one, and the CPU's forms beside their references."""
