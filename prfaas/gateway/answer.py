"""One choice as it comes: the tokens of a generation as text, up to a stop string, and the account at the end."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, assert_never

import msgspec

from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.clock import Clock
from prfaas.core.request import FinishReason, Request
from prfaas.gateway.alignment import Alignment, ScoredToken
from prfaas.gateway.detokenize import Detokenizer
from prfaas.gateway.dispatch import Generation
from prfaas.gateway.events import Finished, Tokens
from prfaas.gateway.hit_accounts import compare_hits
from prfaas.gateway.replies import DecodeTrace, FinishWord, KvTrace, PrefillTrace, Trace
from prfaas.telemetry.metrics import RouterMetrics

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request as it came in. `arrived_s` is on the router's monotonic clock; `index` is the choice that it makes."""

    request: Request
    arrived_s: float
    index: int = 0


class Piece(msgspec.Struct, frozen=True, gc=False):
    """The next part of one choice; the part with a finish reason is its last."""

    choice: int
    text: str
    """Empty while tokens came whose text must be held back."""
    tokens: Sequence[ScoredToken] = ()
    """Those that `text` begins with or contains the beginning of, where logprobs were asked for."""
    finish_reason: FinishWord | None = None


class Answer:
    """Iterate for its pieces; what it used and took is complete afterwards. Raises what its generation raises."""

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
        self._alignment = None if arrival.request.sampling.logprobs is None else Alignment()
        self._one_by_one = bool(self._alignment or arrival.request.sampling.stop_token_ids or detokenizer.can_stop)
        """Where each token has a part of its own in the text, or may be the last."""
        self._metrics = metrics
        self._clock = clock
        self._token_ids: list[int] = []
        self._ttft_s: float | None = None
        self._finish_reason: FinishWord | None = None
        self._account: pb.Account | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Piece:
        if self._finish_reason:
            raise StopAsyncIteration
        event = await anext(self._generation)
        match event:
            case Tokens():
                text = self._take(event)
                if self._detokenizer.stopped:
                    self._end("stop", await self._generation.stop())
                return self._piece(text)
            case Finished(reason, account):
                text = self._detokenizer.flush()
                self._end("stop" if self._detokenizer.stopped or reason is FinishReason.STOP else "length", account)
                return self._piece(text)
            case _:
                assert_never(event)

    @property
    def ready(self) -> bool:
        """The next piece would come without a wait."""
        return self._generation.ready

    @property
    def finished(self) -> bool:
        """The last piece was given out."""
        return self._finish_reason is not None

    @property
    def prompt_tokens(self) -> int:
        return self._arrival.request.prompt_tokens

    @property
    def cached_tokens(self) -> int:
        """Prompt tokens that were not computed again; known at the end."""
        return self._account.tokens_reused if self._account else 0

    @property
    def completion_tokens(self) -> int:
        """Tokens that came, those that a stop string cut off included."""
        return len(self._token_ids)

    def _piece(self, text: str) -> Piece:
        if self._alignment is None:
            return Piece(self._arrival.index, text, (), self._finish_reason)
        tokens = self._alignment.show(text)
        if self._finish_reason and not self._detokenizer.stopped:
            tokens = [*tokens, *self._alignment.rest()]
        return Piece(self._arrival.index, text, tokens, self._finish_reason)

    def _take(self, event: Tokens) -> str:
        """The text that became certain."""
        if self._ttft_s is None:
            self._observe_first_token()
        if not self._one_by_one:
            self._token_ids.extend(event.token_ids)
            return self._detokenizer.push_all(event.token_ids)
        text = ""
        for i, token_id in enumerate(event.token_ids):
            self._token_ids.append(token_id)
            if self._alignment:
                self._alignment.push(token_id, self._detokenizer.decoded_chars, event.logprobs[i])
            if token_id in self._arrival.request.sampling.stop_token_ids:
                continue  # it ends the answer, and like a stop string is no part of it
            text += self._detokenizer.push(token_id)
            if self._detokenizer.stopped:
                break
        return text

    def _observe_first_token(self) -> None:
        self._ttft_s = self._clock() - self._arrival.arrived_s
        placement = self._generation.placement
        decision = "remote" if placement and placement.remote else "local"
        self._metrics.ttft.labels(decision).observe(self._ttft_s)
        self._metrics.vllm_ttft.observe(self._ttft_s)
        self._generation.placements.first_token(self._arrival.request.request_id, self._ttft_s)

    def _end(self, reason: FinishWord, account: pb.Account | None) -> None:
        self._finish_reason = reason
        self._account = account
        if placement := self._generation.placement:
            self._generation.placements.ended(self._arrival.request, placement, account)
        if account:
            self._compare_hits(account)
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

    def _compare_hits(self, account: pb.Account) -> None:
        """Both sides of the directory's prediction, for the same requests."""
        if placement := self._generation.placement:
            request_id = self._arrival.request.request_id
            compare_hits(self._metrics.hits, request_id, self.prompt_tokens, placement, account)

    def trace(self) -> Trace:
        """What happened to the request, once it has ended."""
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
        account.prefill_cluster,
        account.prefill_instance,
        account.tokens_computed,
        account.tokens_reused,
        account.tokens_fetched,
        account.fetched_from or None,
    )


def _kv(account: pb.Account) -> KvTrace:
    return KvTrace(
        account.kv_bytes_raw,
        account.kv_bytes_wire,
        account.kv_bytes_again,
        account.kv_codec,
        account.transfer_ms,
        account.tokens_held,
        account.tokens_verified,
    )
