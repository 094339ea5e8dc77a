"""What this instance measures of itself while it serves, for its heartbeats. Knows no engine and no router."""

from collections import deque

from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.clock import Clock
from prfaas.core.ids import RequestId
from prfaas.engine.messages import Stepped
from prfaas.instance.decode_fit import DecodeFit, DecodeRates, DecodeStep
from prfaas.instance.prefill_fit import PrefillFit, PrefillStep

REFIT_S = 5.0
"""Between two fits, which take milliseconds."""
ANSWERS = 256
"""Latest ones, that the mean length is taken over."""


class MeasuredRates:
    """Fed with an engine's steps and tokens; asked at every heartbeat."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._prefill, self._decode = PrefillFit(), DecodeFit()
        self._decode_rates: DecodeRates | None = None
        self._growing: dict[RequestId, int] = {}
        """Tokens of answers under way."""
        self._answers: deque[int] = deque(maxlen=ANSWERS)
        self._told: pb.Rates | None = None
        self._told_of = 0
        self._fitted_s = -REFIT_S

    def stepped(self, step: Stepped) -> None:
        """A step with prefill and decodes counts once it is known what such decodes take alone."""
        if step.seconds <= 0:
            return
        if not step.prefill_tokens:
            if step.decode_tokens:
                self._decode.add(DecodeStep(step.decode_tokens, step.context_tokens, step.seconds))
            return
        beside_s: float | None = 0.0
        if step.decode_tokens:
            known = self._decode_rates
            beside_s = known.seconds(step.decode_tokens, step.context_tokens) if known else None
        if beside_s is not None and step.seconds > beside_s:
            own_s = step.seconds - beside_s
            prefill = PrefillStep(
                step.prompts_begun, step.prefill_tokens, step.squared_tokens, step.prompts_done, own_s
            )
            self._prefill.add(prefill, self._clock())

    def generated(self, request_id: RequestId, *, ended: bool) -> None:
        """One more token of an answer."""
        tokens = self._growing.get(request_id, 0) + 1
        if ended:
            self._growing.pop(request_id, None)
            self._answers.append(tokens)
        else:
            self._growing[request_id] = tokens

    def forget(self, request_id: RequestId) -> None:
        """Its answer is nobody's any more; once is enough, more does no harm."""
        self._growing.pop(request_id, None)

    def rates(self) -> pb.Rates | None:
        """As of the last fit; None before anything was measured."""
        now_s, seen = self._clock(), self._prefill.seen + self._decode.seen + len(self._answers)
        if seen != self._told_of and now_s - self._fitted_s >= REFIT_S:
            self._told, self._told_of, self._fitted_s = self._fit(now_s), seen, now_s
        return self._told

    def _fit(self, now_s: float) -> pb.Rates:
        self._decode_rates = self._decode.rates()
        rates = pb.Rates(output_tokens=sum(self._answers) / len(self._answers) if self._answers else 0.0)
        if prefill := self._prefill.rates(now_s):
            rates.prefill_overhead_s = prefill.overhead_s
            rates.prefill_per_token_s = prefill.per_token_s
            rates.prefill_per_token2_s = prefill.per_token2_s
            rates.prefill_samples = prefill.prompts
        if decode := self._decode_rates:
            rates.decode.extend(pb.DecodePoint(requests=n, seconds=seconds) for n, seconds in decode.points)
            rates.decode_per_context_token_s = decode.per_context_token_s
        return rates
