"""Discrete events over the real policy, cache and scheduler code; times come from profiles."""
