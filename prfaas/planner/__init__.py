"""What a deployment can do, worked out (`plan`) and played through (`simulate`), with the router's own policy."""
