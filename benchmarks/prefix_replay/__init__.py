"""The prefix cache's benchmark: a trace replayed through the index, what the index itself costs, and a warm start."""
