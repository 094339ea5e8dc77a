"""Instances at fidelity `fluid`: whole stretches of equal steps are one event, with the live cache and shares."""
