"""Whether KV is worth encoding on its way, and as what. Pure; does not know what the codecs do to bytes.

Encoding costs a thread's time on both ends and saves bytes of the link, so it is worth it where bytes are what limits
a transfer, or what is paid for:

- Bytes that cost money are encoded as small as is allowed, however fast the link.
- Where the link's rate is unknown, as at first, or above that of encoding, raw is faster: sending raw takes
  1/rate a byte, encoding at least 1/encode.
- Prefill makes KV layer by layer, and it leaves as it is made. A link that takes all that is made is idle part of the
  time already; encoding would only take cores from the prefill. So the link must also be slower than what is made.

Nothing is rounded unless the receiver's ticket and the sender's configuration both name a codec that rounds, and never
twice: see `lossless`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from prfaas.config.sections import CodecName

ROUNDS: frozenset[CodecName] = frozenset({"int8", "state16"})
"""What comes back from these is not what was encoded."""

SAVES: Mapping[CodecName, float] = {"raw": 1.0, "exact": 1.4, "int8": 1.9, "state16": 2.0}
"""Bytes before encoding over bytes after it, of usual KV and states."""


@dataclass(frozen=True, slots=True)
class Route:
    """The way to the receiver."""

    rate_bytes_s: float | None = None
    """Measured, or else configured; None on a path of which nothing is known, such as the loopback."""
    usd_per_gb: float = 0.0


def choose(
    offered: frozenset[CodecName],
    usable: frozenset[CodecName],
    route: Route,
    encode_bytes_s: Mapping[CodecName, float],
    produce_bytes_s: float | None,
) -> CodecName:
    """The codec for a tensor that is `usable` with some, of which both ends' configurations allow `offered`.

    `encode_bytes_s`: by codec, of one thread, before encoding; those that it lacks are not to be had here.
    `produce_bytes_s`: KV of the request as it is made; None if all is there already, or not known yet.
    """
    candidates = [name for name in offered & usable if name in encode_bytes_s]
    if not route.usd_per_gb:
        rate = route.rate_bytes_s
        if rate is None or (produce_bytes_s is not None and produce_bytes_s <= rate):
            return "raw"
        candidates = [name for name in candidates if rate < encode_bytes_s[name]]
    return max(candidates, key=lambda name: (SAVES[name], name), default="raw")


def lossless(names: frozenset[CodecName]) -> frozenset[CodecName]:
    """Those of `names` that may be used for what was rounded before: errors would add up."""
    return names - ROUNDS
