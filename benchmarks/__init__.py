"""Speed, each figure beside its floor: one module per benchmark, one table and `--json` each. See README.md."""
