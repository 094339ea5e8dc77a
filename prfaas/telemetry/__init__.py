"""Metrics and logs. Knows prometheus-client and logging; knows nothing of what it measures."""
