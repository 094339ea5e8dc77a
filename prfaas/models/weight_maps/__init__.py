"""Where each family's checkpoints keep the canonical parts. Names only; shapes are checked against `parts`."""
