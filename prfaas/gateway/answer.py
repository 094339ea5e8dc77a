"""One answer as it comes: the tokens of a generation as text, up to a stop string, and the account at the end."""

import logging
from dataclasses import dataclass
from typing import Self, assert_never

from msgspec import UNSET

from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.clock import Clock
from prfaas.core.request import FinishReason, Request
from prfaas.gateway.detokenize import Detokenizer
from prfaas.gateway.dispatch import Finished, Generation, Tokens
from prfaas.gateway.forms import Ending
from prfaas.gateway.replies import (
    DecodeTrace,
    FinishWord,
    KvTrace,
    PrefillTrace,
    PromptTokensDetails,
    Trace,
    Usage,
)
from prfaas.telemetry.metrics import RouterMetrics

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request as it came in. `arrived_s` is on the router's monotonic clock."""

    request: Request
    arrived_s: float
    traced: bool


class Answer:
    """Iterate for the text; afterwards `ending()` tells the rest. Raises what its generation raises."""

    def __init__(
        self,
        arrival: Arrival,
        generation: Generation,
        detokenizer: Detokenizer,
        metrics: RouterMetrics,
        clock: Clock,
    ) -> None:
        self._arrival = arrival
        self._generation = generation
        self._detokenizer = detokenizer
        self._metrics = metrics
        self._clock = clock
        self._token_ids: list[int] = []
        self._ttft_s: float | None = None
        self._finish_reason: FinishWord | None = None
        self._account: pb.Account | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        """The next text; empty while tokens came whose text must be held back."""
        if self._finish_reason:
            raise StopAsyncIteration
        event = await anext(self._generation)
        match event:
            case Tokens(token_ids):
                return await self._take(token_ids)
            case Finished(reason, account):
                text = self._detokenizer.flush()
                self._end("stop" if self._detokenizer.stopped or reason is FinishReason.STOP else "length", account)
                return text
            case _:
                assert_never(event)

    async def read_all(self) -> str:
        """The whole text."""
        return "".join([text async for text in self])

    def ending(self) -> Ending:
        """Usage and trace of the complete answer."""
        assert self._finish_reason, "the answer has not ended"
        return Ending(self._finish_reason, self._usage(), self._trace() if self._arrival.traced else UNSET)

    async def _take(self, token_ids: tuple[int, ...]) -> str:
        if self._ttft_s is None:
            self._observe_first_token()
        text = ""
        for token_id in token_ids:
            self._token_ids.append(token_id)
            text += self._detokenizer.push(token_id)
            if self._detokenizer.stopped:
                self._end("stop", await self._generation.stop())
                break
        return text

    def _observe_first_token(self) -> None:
        self._ttft_s = self._clock() - self._arrival.arrived_s
        placement = self._generation.placement
        decision = "remote" if placement and placement.remote else "local"
        self._metrics.ttft.labels(decision).observe(self._ttft_s)
        self._metrics.vllm_ttft.observe(self._ttft_s)

    def _end(self, reason: FinishWord, account: pb.Account | None) -> None:
        self._finish_reason = reason
        self._account = account
        if account and account.fallback:
            self._metrics.fallbacks.labels(account.fallback).inc()
            placement = self._generation.placement
            planned = placement.prefill.instance_id if placement and placement.prefill else "decode"
            log.warning(
                "request %s: prefill was placed on %s, but %s did it (%s)",
                self._arrival.request.request_id,
                planned,
                account.prefill_instance,
                account.fallback,
            )

    def _usage(self) -> Usage:
        prompt, completion = self._arrival.request.prompt_tokens, len(self._token_ids)
        cached = self._account.tokens_reused if self._account else 0
        return Usage(prompt, completion, prompt + completion, PromptTokensDetails(cached))

    def _trace(self) -> Trace:
        placement, account = self._generation.placement, self._account
        assert placement, "an answer that ended was placed"
        return Trace(
            request_id=self._arrival.request.request_id,
            prefill=_prefill(account) if account else None,
            kv=_kv(account) if account else None,
            decode=DecodeTrace(placement.decode.cluster, placement.decode.instance_id),
            queue_ms=account.queue_ms if account else None,
            prefill_ms=account.prefill_ms if account else None,
            ttft_ms=None if self._ttft_s is None else self._ttft_s * 1e3,
            fallback=(account.fallback or None) if account else None,
            placement=placement.reason,
            token_ids=self._token_ids,
        )


def _prefill(account: pb.Account) -> PrefillTrace:
    return PrefillTrace(
        account.prefill_cluster, account.prefill_instance, account.tokens_computed, account.tokens_reused
    )


def _kv(account: pb.Account) -> KvTrace:
    return KvTrace(account.kv_bytes_raw, account.kv_bytes_wire, account.kv_codec, account.transfer_ms)
