"""What a step says of itself: the time inside the decoder, by a clock that the decoder moves."""

from pathlib import Path

import torch
from torch import Tensor

from prfaas.cache.pool import PagePool
from prfaas.core.ids import RequestId
from prfaas.core.request import Request, SamplingParams
from prfaas.engine.drawer import build_drawer
from prfaas.engine.runner import Runner
from prfaas.models.batch import CacheTensors, ForwardBatch, LayerDone
from prfaas.scheduler.scheduler import Scheduler
from prfaas.scheduler.sequence import Mode


def test_forward_seconds_are_those_of_the_last_step() -> None:
    now = 0.0

    def forward(batch: ForwardBatch, _: CacheTensors, __: LayerDone | None) -> Tensor:
        nonlocal now
        now += len(batch.token_ids)
        return torch.zeros(len(batch.logit_rows), 10)

    pools = PagePool(8), PagePool(1, "state slot")
    scheduler = Scheduler(*pools, page_tokens=4, step_tokens=3, eos_token_ids=frozenset())
    runner = Runner(forward, CacheTensors(4, ()), build_drawer(Path(), ()), clock=lambda: now)
    scheduler.add(Request(RequestId("a"), tuple(range(5)), SamplingParams(max_tokens=2, temperature=0)), Mode.SERVE)
    scheduler.admit()
    found = []
    for _ in range(3):
        plan = scheduler.plan()
        assert plan is not None
        scheduler.commit(plan, runner.run(plan, lambda _: None).tokens)
        found.append(runner.forward_seconds)
    assert found == [3, 2, 1]
