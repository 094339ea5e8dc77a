"""Engines that compute the same prompts on the same machine: ours, its peers, and what the machine itself can do."""
