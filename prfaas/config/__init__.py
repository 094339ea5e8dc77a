"""The fleet's configuration: frozen sections read once, from YAML plus `--set` overrides, at a process's edge."""
