"""KV bytes between instances over TCP: threads and blocking sockets around `prfaas.wire`. Knows no models.

Seams left for the striped, credited data plane: `Outbox` hides how many connections a peer has; `Inbox` does not care
which connection a frame came by.
"""
