"""How much prefill a step may carry beside its decodes. Knows no clock: whoever runs the steps says what they took.

A step is taken to last D(decodes) + r · (prefill tokens). Steps without prefill give D, and are asked for when none was
seen for a while, since contexts grow. The others give r, which holds what a chunk costs whatever its length: reading a
long context, above all. Where even the smallest chunk costs several decode steps, prefill pauses until they have been
made up for, so that decodes are slowed as much as was asked on average.
"""

from collections import deque
from collections.abc import Callable

FLOOR_TOKENS = 16
"""The smallest chunk worth its costs, unless a prompt ends."""
START_SHARE = 8
"""Until r is known, a step prefills 1/8 of its token budget."""
PROBE_STEPS = 16
"""A step without prefill is asked for when so many with it have passed."""
RARE_BELOW_TOKENS = FLOOR_TOKENS // 2
"""Where a step could bear fewer, chunks become rare and large instead of ever-present and slow..."""
RARE_UNTIL_TOKENS = 2 * FLOOR_TOKENS
"""...until it could bear so many: large chunks are cheaper per token, and must not argue for their own end."""
RARE_STEPS = 16
"""A rare chunk costs what decodes bear in so many steps: more than nine of ten tokens come undelayed."""
MOST_PAUSED = 64
"""Steps that a prompt waits at most, whatever it costs: it must end."""
STALL = 8
"""What takes more than so many times what was expected has been held up by something else."""
_LEVER_TOKENS = FLOOR_TOKENS // 2
"""r is not taken from fewer tokens: it would be noise."""
_LEAST_S = 1e-9
"""Noise can make a step with prefill shorter than one without; a token still costs something."""

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
    """Learns what steps cost, and keeps decodes at `decode_slowdown` times a step of the decodes alone."""

    def __init__(self, decode_slowdown: float) -> None:
        assert decode_slowdown >= 1.0
        self._bearable = decode_slowdown - 1.0
        """Seconds of prefill that a second of decoding bears."""
        self._steps = 0
        self._alone: dict[int, _Estimate] = {}
        """Per size of batch (seconds, decodes) of steps without prefill."""
        self._slope = _Estimate(max)
        """(seconds per prefill token,)"""
        self._owed_s = 0.0
        """Seconds of prefill beyond what the steps so far could bear."""
        self._paused = 0
        """Steps with decodes and without prefill since the last with both."""
        self._rare = False

    def observe(self, num_decodes: int, prefill_tokens: int, seconds: float) -> None:
        """What a step took. Steps without decodes teach nothing here: their fixed costs differ."""
        if num_decodes == 0:
            return
        self._steps += 1
        self._paused = 0 if prefill_tokens else self._paused + 1
        alone = self._alone.setdefault(_size(num_decodes), _Estimate(min))
        if prefill_tokens == 0:
            alone.add(self._steps, seconds, num_decodes)
        elif alone.known and prefill_tokens >= _LEVER_TOKENS:
            self._slope.add(self._steps, max(_LEAST_S, (seconds - self._alone_s(num_decodes)) / prefill_tokens))
        if alone.known and self._slope.known:
            # Chunks over contexts of very different lengths differ, but a stall of the machine is nobody's debt.
            expected_s, seen_s = self._slope.value[0] * prefill_tokens, seconds - self._alone_s(num_decodes)
            cost_s = min(max(seen_s, 0.0), STALL * expected_s)
            self._owed_s = max(0.0, self._owed_s + cost_s - self._bearable * self._alone_s(num_decodes))

    def prefill_tokens(self, num_decodes: int, step_tokens: int, page_tokens: int) -> int:
        """Prefill tokens for a step with so many decodes, of at most `step_tokens` in all; 0 for the decodes alone.

        Whole pages, or below one page a multiple of FLOOR_TOKENS; all of `step_tokens` when nothing decodes.
        """
        if num_decodes == 0:
            return step_tokens
        most = step_tokens - num_decodes
        assert most > 0
        if self._steps > 0 and self._paused < MOST_PAUSED and self._pauses(num_decodes):
            return 0
        return min(most, _rounded(self._wanted(num_decodes, step_tokens), page_tokens))

    def _pauses(self, num_decodes: int) -> bool:
        """This step is for decodes alone: what they take is not known, or prefill has more than its share."""
        alone = self._alone.get(_size(num_decodes))
        if alone is None or not alone.known or self._steps - alone.seen >= PROBE_STEPS:
            return True
        return self._owed_s > self._bearable * self._alone_s(num_decodes)

    def _wanted(self, num_decodes: int, step_tokens: int) -> float:
        alone = self._alone.get(_size(num_decodes))
        if alone is None or not alone.known or not self._slope.known:
            return step_tokens / START_SHARE
        borne = self._bearable * self._alone_s(num_decodes) / self._slope.value[0]
        self._rare = borne < (RARE_UNTIL_TOKENS if self._rare else RARE_BELOW_TOKENS)
        return max(borne * RARE_STEPS, RARE_UNTIL_TOKENS) if self._rare else borne

    def _alone_s(self, num_decodes: int) -> float:
        """Seconds of a step of decodes alone: of the batch's size, corrected for how far it is from their average.

        A decode more costs what separates this size from the nearest other: at least nothing, at most its share.
        """
        size = _size(num_decodes)
        seconds, decodes = self._alone[size].value
        others = [s for s, e in self._alone.items() if e.known and s != size]
        if not others:
            return seconds
        other_s, other_decodes = self._alone[min(others, key=lambda s: abs(s - size))].value
        per_decode = (seconds - other_s) / (decodes - other_decodes)
        return seconds + (num_decodes - decodes) * min(max(per_decode, 0.0), seconds / decodes)


def _size(num_decodes: int) -> int:
    """Batches of like cost: 1, 2–3, 4–7, 8–15, …"""
    return num_decodes.bit_length()


def _rounded(tokens: float, page_tokens: int) -> int:
    """Down to whole pages, or below one page to a multiple of FLOOR_TOKENS, and never below that."""
    unit = page_tokens if tokens >= page_tokens else FLOOR_TOKENS
    return max(FLOOR_TOKENS, int(tokens) // unit * unit)
