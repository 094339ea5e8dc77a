"""When to stop waiting for KV that still arrives, but too slowly. Reads no clock; silence is for others to judge."""

from dataclasses import dataclass

PATIENCE = 4
"""A transfer may take so many times as long as at the best rate ever seen on its link: links are shared."""


@dataclass(frozen=True, slots=True)
class Tail:
    """What is left of a transfer whose prefill is over, so that nothing but the link is waited for."""

    missing_bytes: float
    """Payload that has still to arrive, of this transfer and of those that share its way."""
    rate_bytes_s: float
    """At which it arrives now; 0: nothing does."""
    best_bytes_s: float
    """The best rate ever seen on this link; 0: none."""
    deadline_s: float | None
    """Until the request's first token is due; None: whenever it comes."""
    local_prefill_s: float | None
    """What the whole prompt would take on this instance; None: not known."""

    @property
    def remaining_s(self) -> float:
        """Until all has arrived, if nothing changes."""
        return self.missing_bytes / self.rate_bytes_s if self.rate_bytes_s else float("inf")


def too_slow(tail: Tail, stall_s: float) -> str | None:
    """Why the transfer should be given up, in words for a person; None: wait on.

    At its present rate it would take longer than `stall_s`, and than four times what it would take at the link's best
    rate. Or it would miss the first token's deadline while a prefill here could be no slower. Where nothing arrives at
    all nothing can be projected: others may have their turn, or the link is dead, which is a matter of silence.
    """
    if not tail.rate_bytes_s or not tail.missing_bytes:
        return None
    remaining_s = tail.remaining_s
    allowed_s = max(stall_s, PATIENCE * tail.missing_bytes / tail.best_bytes_s if tail.best_bytes_s else 0.0)
    pace = f"{tail.missing_bytes:.0f} bytes are missing and arrive at {tail.rate_bytes_s:.0f} bytes/s"
    if remaining_s > allowed_s:
        return f"{pace}: {remaining_s:.1f} s more, where {allowed_s:.1f} s are allowed"
    late = tail.deadline_s is not None and remaining_s > tail.deadline_s
    if late and (tail.local_prefill_s is None or tail.local_prefill_s <= remaining_s):
        return f"{pace}: {remaining_s:.1f} s more, which is too late for the first token"
    return None
