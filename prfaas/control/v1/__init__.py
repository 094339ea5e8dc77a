"""Generated from fleet.proto by `make proto`; `make check` fails when it is not current."""
