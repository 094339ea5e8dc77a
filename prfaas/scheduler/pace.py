"""How much prefill a step may carry beside its decodes. Knows no clock: whoever runs the steps says what they took.

A step is taken to last D(decodes) + r · (prefill tokens). Two kinds of steps tell the two apart: light ones (at most
FLOOR_TOKENS of prefill) give a point near D, heavy ones the slope r from there. Whichever kind has not been seen for a
while is asked for, because both drift: attention makes either dearer as contexts grow.
"""

from collections import deque
from collections.abc import Callable

FLOOR_TOKENS = 16
"""Prefill goes on by so many tokens a step even where it slows decodes by more than was asked."""
START_SHARE = 8
"""Until the slope is known, a step prefills 1/8 of its token budget."""
PROBE_STEPS = 32
"""A light or a heavy step is asked for when so many steps with decodes have passed without one."""
_LEVER_TOKENS = FLOOR_TOKENS // 2
"""A slope is not taken between points that are closer than this: it would be noise."""
_LEAST_S = 1e-9
"""Noise can make a heavy step shorter than a light one; a token still costs something."""

_Numbers = tuple[float, ...]


class _Estimate:
    """Follows the median of the last three observations, so that a single stall of the machine leaves no trace.

    At once where that is safe for decodes (`safe` is min or max of the first number), else half the way each time.
    """

    def __init__(self, safe: Callable[[_Numbers, _Numbers], _Numbers]) -> None:
        self._safe = safe
        self._recent: deque[_Numbers] = deque(maxlen=3)
        self.value: _Numbers = ()
        self.seen = 0
        """The step of the last observation."""

    @property
    def known(self) -> bool:
        """The first observation alone may be a stall, or a warm-up."""
        return len(self._recent) > 1

    def add(self, step: int, *observed: float) -> None:
        """One observation; its first number is the one that stalls distort."""
        self._recent.append(observed)
        middle = sorted(self._recent)[(len(self._recent) - 1) // 2]
        midway = tuple((m + v) / 2 for m, v in zip(middle, self.value or middle, strict=True))
        self.value = self._safe(middle, midway) if len(self._recent) == self._recent.maxlen else middle
        self.seen = step


class Pace:
    """Learns what steps cost, and keeps those with decodes at `decode_slowdown` times a step of the decodes alone."""

    def __init__(self, decode_slowdown: float) -> None:
        assert decode_slowdown >= 1.0
        self._decode_slowdown = decode_slowdown
        self._steps = 0
        self._light: dict[int, _Estimate] = {}
        """Per size of batch (seconds, prefill tokens, decodes): what lies between points of a plane lies in it too."""
        self._slope = _Estimate(max)
        """(seconds per prefill token,)"""

    def observe(self, num_decodes: int, prefill_tokens: int, seconds: float) -> None:
        """What a step took. Steps without decodes teach nothing here: their fixed costs differ."""
        if num_decodes == 0:
            return
        self._steps += 1
        light = self._light.setdefault(_size(num_decodes), _Estimate(min))
        if prefill_tokens <= FLOOR_TOKENS:
            light.add(self._steps, seconds, prefill_tokens, num_decodes)
        elif light.known:
            lever = prefill_tokens - light.value[1]
            if lever >= _LEVER_TOKENS:
                slope = (seconds - self._light_s(num_decodes)) / lever
                self._slope.add(self._steps, max(_LEAST_S, slope))

    def prefill_tokens(self, num_decodes: int, step_tokens: int, page_tokens: int) -> int:
        """Prefill tokens for a step with so many decodes, of at most `step_tokens` in all: at least 1.

        Whole pages, or below one page a multiple of FLOOR_TOKENS; all of `step_tokens` when nothing decodes.
        """
        if num_decodes == 0:
            return step_tokens
        most = step_tokens - num_decodes
        assert most > 0
        return min(most, _rounded(self._wanted(num_decodes, step_tokens), page_tokens))

    def _wanted(self, num_decodes: int, step_tokens: int) -> float:
        light = self._light.get(_size(num_decodes))
        if self._steps == 0:
            return step_tokens / START_SHARE
        if light is None or not light.known or self._overdue(light):
            return FLOOR_TOKENS
        if not self._slope.known:
            return step_tokens / START_SHARE
        token_s = self._slope.value[0]
        decode_s = max(0.0, self._light_s(num_decodes) - token_s * light.value[1])
        wanted = (self._decode_slowdown - 1.0) * decode_s / token_s
        return max(wanted, 2 * FLOOR_TOKENS) if self._overdue(self._slope) else wanted

    def _light_s(self, num_decodes: int) -> float:
        """Seconds of a light step: that of the batch's size, corrected for how far off the batch is from its average.

        A decode more costs what separates this size from the nearest other: at least nothing, at most its share.
        """
        size = _size(num_decodes)
        seconds, _, decodes = self._light[size].value
        others = [s for s, e in self._light.items() if e.known and s != size]
        if not others:
            return seconds
        other_s, _, other_decodes = self._light[min(others, key=lambda s: abs(s - size))].value
        per_decode = (seconds - other_s) / (decodes - other_decodes)
        return seconds + (num_decodes - decodes) * min(max(per_decode, 0.0), seconds / decodes)

    def _overdue(self, estimate: _Estimate) -> bool:
        return self._steps - estimate.seen >= PROBE_STEPS


def _size(num_decodes: int) -> int:
    """Batches of like cost: 1, 2–3, 4–7, 8–15, …"""
    return num_decodes.bit_length()


def _rounded(tokens: float, page_tokens: int) -> int:
    """Down to whole pages, or below one page to a multiple of FLOOR_TOKENS, and never below that."""
    unit = page_tokens if tokens >= page_tokens else FLOOR_TOKENS
    return max(FLOOR_TOKENS, int(tokens) // unit * unit)
