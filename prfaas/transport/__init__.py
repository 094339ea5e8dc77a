"""KV bytes between instances over TCP: a thread per connection around `prfaas.wire`. Knows no models.

`Outbox` sends: it hides how many connections a peer has. `DataServer` receives into what `Inbox` expects, whichever
connection a frame comes by.
"""
