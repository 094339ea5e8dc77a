"""The prefill and decode roles: engine, data plane and control plane joined. Knows only its own instance."""
