"""Which cache memory belongs to whom. Counts pages; never touches a tensor."""
