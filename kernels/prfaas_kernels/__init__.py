"""Attention and state kernels for hybrid models, one folder per op. Knows nothing of prfaas itself."""
