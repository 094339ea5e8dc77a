"""Where requests go. Pure functions over frozen views: no clock, no sockets, no torch."""
