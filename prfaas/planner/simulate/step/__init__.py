"""Instances at fidelity `step`: the real scheduler and cache, run step by step in simulated time."""
