"""The parts of hybrid decoders, one noun per file. Shared by all families; knows no checkpoint."""
