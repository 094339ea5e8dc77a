"""prfaas: LLM serving whose long prefills run in another datacenter."""

__version__ = "0.1.0"
