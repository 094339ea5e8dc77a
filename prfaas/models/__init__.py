"""Hybrid decoders read from a Hugging Face directory. Knows tensors; knows no sockets and no scheduling."""
