"""What another instance's cache has sent of a prompt, as an account tells it. Knows nothing of how it came."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fetched:
    """The KV of tokens [first, end) of a prompt, and the states at their end."""

    instance_id: str
    first: int
    """Those before it were here already."""
    end: int

    def tokens(self, reused: int) -> int:
        """How many of them were of use to a request that reused the prompt's first `reused` tokens."""
        return max(0, min(reused, self.end) - self.first)

    def source(self, reused: int) -> str:
        """Where they came from; empty if they were of no use to it."""
        return self.instance_id if reused >= self.end else ""
