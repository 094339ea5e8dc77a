"""An emulated WAN link between two clusters on one machine: a CONNECT proxy that limits rate and adds delay."""
