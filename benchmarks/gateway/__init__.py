"""What the gateway costs: a process that answers without an engine, and one that asks."""
