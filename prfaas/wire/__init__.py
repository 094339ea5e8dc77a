"""The KV wire protocol, sans-IO: bytes in, decisions out. Knows no sockets, threads or tensors.

docs/wire-format.md describes it for those who write a peer.
"""
