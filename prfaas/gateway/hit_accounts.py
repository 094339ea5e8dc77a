"""Whether prompts' prefixes were where the directory said: its prediction beside the account of the same request."""

import logging

from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.ids import RequestId
from prfaas.policy.view import Placement
from prfaas.telemetry.hit_metrics import HitMetrics

log = logging.getLogger(__name__)


def compare_hits(
    metrics: HitMetrics, request_id: RequestId, prompt_tokens: int, placement: Placement, account: pb.Account
) -> None:
    """Counts an answered request. One that another instance prefilled in the end is no fault of the directory."""
    prefill = placement.prefill or placement.decode
    predicted, realised = prompt_tokens - placement.uncached_tokens, account.tokens_reused
    metrics.predicted_tokens.labels(prefill.cluster).inc(predicted)
    metrics.realised_tokens.labels(prefill.cluster).inc(realised)
    # Both are whole blocks, so that less is less by a block or more.
    if predicted > realised and not account.fallback:
        metrics.overpredictions.labels(prefill.cluster).inc()
        metrics.overpredicted_tokens.labels(prefill.cluster).inc(predicted - realised)
        log.debug(
            "request %s: %d of %d prompt tokens were said to be cached on %s, which found %d",
            request_id,
            predicted,
            prompt_tokens,
            prefill.instance_id,
            realised,
        )
