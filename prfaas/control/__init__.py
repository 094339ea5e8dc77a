"""The control plane: gRPC messages, clients and servers. Knows addresses and calls; no tensors, no policy."""
