"""What an instance takes for a prompt and for a decode step, in seconds, as formulas. Knows no files and no clock.

`T_prefill(l, cached)` and `T_decode(batch, context)` of the PrfaaS paper (s3.4), and `S_kv(l)` (s2). Measured points
are joined by straight lines; beyond them the fitted form goes on.
"""

from bisect import bisect_right
from dataclasses import dataclass, field

Point = tuple[float, float]
"""(tokens or requests, seconds)."""


@dataclass(frozen=True, slots=True)
class PrefillCurve:
    """T_prefill of a prompt that is alone on an instance: `overhead_s + per_token_s·l + per_token2_s·l²`, or points."""

    overhead_s: float
    per_token_s: float
    per_token2_s: float = 0.0
    """Attention: every token looks at those before it."""
    points: tuple[Point, ...] = ()
    """(tokens, seconds) with rising tokens; at least two, or none. Between them they replace the formula; below the
    first, the line through the first two goes on; beyond the last, the formula does, shifted to meet it."""
    _tokens: tuple[float, ...] = field(init=False, repr=False, compare=False)
    _origin_s: float = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        assert len(self.points) != 1
        object.__setattr__(self, "_tokens", tuple(tokens for tokens, _ in self.points))
        object.__setattr__(self, "_origin_s", max(0.0, self.until(0.0)))

    @property
    def overhead(self) -> float:
        """Seconds of a prompt whatever its length: paid once by each request, however many chunks it takes."""
        return self._origin_s

    def seconds(self, tokens: float, cached: float = 0) -> float:
        """`T_prefill(l, cached)` of a prompt of `tokens` tokens, of which the first `cached` are not computed."""
        return self._origin_s + self.work(cached, tokens)

    def work(self, start: float, end: float) -> float:
        """Seconds of a chunk [start, end) alone, without the overhead that its prompt pays once."""
        return max(0.0, self.until(end) - self.until(start))

    def covers(self, tokens: float) -> bool:
        """Whether a length lies within what was measured; the formula alone covers everything."""
        return not self.points or tokens <= self._tokens[-1]

    def until(self, tokens: float) -> float:
        """Where the curve is at `tokens`, as measured or fitted: a chunk takes the difference of its ends."""
        if not self.points:
            return self.overhead_s + tokens * (self.per_token_s + tokens * self.per_token2_s)
        points = self.points
        last, last_s = points[-1]
        if tokens > last:
            return last_s + (tokens - last) * (self.per_token_s + (tokens + last) * self.per_token2_s)
        # As far as the last point but one: whatever is beyond it lies on the last line.
        right = bisect_right(self._tokens, tokens, 1, len(points) - 1)
        (x0, y0), (x1, y1) = points[right - 1], points[right]
        return y0 + (tokens - x0) * (y1 - y0) / (x1 - x0)


@dataclass(frozen=True, slots=True)
class DecodeCurve:
    """T_decode: seconds of one step of a batch, by its requests and by the tokens that they look back at together."""

    points: tuple[Point, ...]
    """(requests, seconds) at no context, with rising requests, at least one. Straight lines between them; the last one
    goes on beyond, and below the first its seconds hold."""
    per_context_token_s: float = 0.0
    max_batch: int = 256
    """`BS_max`: what the SLO or the memory allows."""
    _sizes: tuple[float, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        assert self.points
        object.__setattr__(self, "_sizes", tuple(size for size, _ in self.points))

    def step_s(self, batch: float, context_tokens: float = 0) -> float:
        """`context_tokens`: of all requests of the batch together."""
        points = self.points
        if batch <= points[0][0] or len(points) == 1:
            alone = points[0][1]
        else:
            right = min(bisect_right(self._sizes, batch), len(points) - 1)
            (x0, y0), (x1, y1) = points[right - 1], points[right]
            alone = y0 + (batch - x0) * (y1 - y0) / (x1 - x0)
        return alone + context_tokens * self.per_context_token_s


@dataclass(frozen=True, slots=True)
class Profile:
    """One kind of instance serving one model."""

    name: str
    prefill: PrefillCurve
    decode: DecodeCurve
    kv_bytes_per_token: float
    state_bytes: float
    """Of one request, whatever its length: linear states and windows, which exist when the prefill ends."""
    cache_bytes: float
    """Memory for KV, states and cached prefixes."""
    gpus: int = 1
    usd_per_hour: float = 0.0
    """Of the whole instance."""

    def kv_bytes(self, tokens: float) -> float:
        """`S_kv(l)`."""
        return self.state_bytes + tokens * self.kv_bytes_per_token

    def kv_throughput_bytes_s(self, tokens: float) -> float:
        """`Phi_kv(l)`, Eq 1: the rate at which one instance makes KV."""
        return self.kv_bytes(tokens) / self.prefill.seconds(tokens)

    @property
    def usd_per_s(self) -> float:
        return self.usd_per_hour / 3600
