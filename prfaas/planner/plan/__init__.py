"""What a deployment can do, what it costs, and whether offloading pays: formulas only, nothing is played through."""
