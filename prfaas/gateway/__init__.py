"""The router role: OpenAI over HTTP towards clients, gRPC towards instances. Knows no torch and no model code."""
