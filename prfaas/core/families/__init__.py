"""One reader per family of models: what its `config.json` says, as a `DecoderSpec`. Knows no weights."""
