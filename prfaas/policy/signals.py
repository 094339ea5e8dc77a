"""What the fleet measured of its load and its link, as the loops over both timescales see it. Decides nothing."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Signals:
    """What the fleet measured lately."""

    at_s: float
    link_utilisation: float
    """Share of `egress_bytes_s` in use, 0 to 1."""
    link_queue_s: float
    """What is queued for the link takes so long."""
    egress_bytes_s: float
    """What the link delivers when there is enough to send; 0: nothing gets through."""
    prfaas_queue_s: float
    """A prompt waits so long before its prefill begins, remotely..."""
    pdp_queue_s: float
    """...and locally."""
    rate_req_s: float
    """Requests come so often."""
    link: str = "link"
    """What to call it in reasons."""

    @property
    def remote_s(self) -> float:
        """Until the prefill of a remote prompt begins, and until its KV has a turn on the link."""
        return self.prfaas_queue_s + self.link_queue_s

    def of_link(self) -> str:
        """In words."""
        return f"{self.link} at {self.link_utilisation:.0%} of {self.egress()}, {self.link_queue_s:.1f} s queued"

    def of_queues(self) -> str:
        """In words."""
        return (
            f"prompts wait {self.prfaas_queue_s:.1f} s remotely and {self.link_queue_s:.1f} s for {self.link}, "
            f"{self.pdp_queue_s:.1f} s locally"
        )

    def egress(self) -> str:
        """In words."""
        return f"{self.egress_bytes_s * 8e-9:.3g} Gbit/s"
