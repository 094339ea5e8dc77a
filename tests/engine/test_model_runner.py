"""A plan as the decoder gets it, and what a step says of itself: its time, by a clock that the decoder moves."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from prfaas.core.ids import RequestId
from prfaas.core.request import Request, SamplingParams
from prfaas.engine.drawer import build_drawer
from prfaas.engine.model_runner import DeviceError, ModelRunner
from prfaas.engine.parallel import decode, encode
from prfaas.models.batch import CacheTensors, ForwardBatch, LayerDone
from prfaas.models.cache_tensors import allocate_cache
from prfaas.scheduler.plan import Chunk, StepPlan
from prfaas.scheduler.sequence import Mode, Phase, Sequence
from tests.wire.small import SHAPE

PAGE = 4
OWN, OTHERS, SNAPSHOT = (9, 8), (7, 6), (5, 4)


def sequence(name: str, prompt: int, pages: tuple[int, ...], state_pages: tuple[int, ...] = OWN) -> Sequence:
    request = Request(RequestId(name), tuple(range(10, 10 + prompt)), SamplingParams(max_tokens=2, temperature=0))
    return Sequence(request, Mode.SERVE, Phase.PREFILL, pages=pages, state_pages=state_pages)


def run(plan: StepPlan) -> ForwardBatch:
    """The batch that a decoder gets for a plan."""
    found = []

    def forward(batch: ForwardBatch, _: CacheTensors, __: LayerDone | None) -> Tensor:
        found.append(batch)
        return torch.zeros(len(batch.logit_rows), 10)

    ModelRunner(forward, allocate_cache(SHAPE, 1, PAGE), build_drawer(Path(), ())).run(plan, lambda _: None)
    return found[0]


def decoding() -> Chunk:
    """A sequence's second output token."""
    one = sequence("decodes", 5, (3, 2), OTHERS)
    one.output_token_ids.append(77)
    return Chunk(one, 5, 6, OTHERS, OTHERS)


def assert_same(actual: ForwardBatch, expected: ForwardBatch) -> None:
    for name in ForwardBatch.__slots__:
        ours, theirs = getattr(actual, name), getattr(expected, name)
        assert torch.equal(ours, theirs) if isinstance(ours, Tensor) else ours == theirs, name


def test_two_chunks_of_a_prompt_and_a_decode() -> None:
    cut = sequence("cut", 9, (0, 1, 2))
    first, second = Chunk(cut, 0, 8, (), SNAPSHOT), Chunk(cut, 8, 9, SNAPSHOT, OWN)
    batch = run(StepPlan((decoding(),), (first, second)))
    assert batch.token_ids.tolist() == [77, *range(10, 19)]
    assert batch.query_lens == (1, 8, 1)
    assert batch.context_lens == (5, 0, 8)
    assert batch.block_table.tolist() == [[3, 2, 0], [0, 1, 2], [0, 1, 2]]
    assert batch.state_from.tolist()[::2] == [[*OTHERS], [*SNAPSHOT]]
    assert batch.state_to.tolist() == [[*OTHERS], [*SNAPSHOT], [*OWN]]
    assert batch.num_decodes == 1
    assert batch.logit_rows.tolist() == [0, 9]
    assert_same(decode(encode(batch)), batch)


def test_states_that_stay_are_resolved_once() -> None:
    whole = Chunk(sequence("whole", 3, (1,)), 0, 3, (), OWN)
    for plan in (StepPlan((decoding(),), (whole,)), StepPlan((decoding(),), ())):
        batch = run(plan)
        assert batch.state_from is batch.state_to
        followers = decode(encode(batch))
        assert followers.state_from is followers.state_to
        assert_same(followers, batch)


def test_a_model_without_states_has_no_pages_of_them() -> None:
    dense = sequence("dense", 6, (4, 5), ())
    batch = run(StepPlan((), (Chunk(dense, 4, 6),)))
    assert batch.state_from.shape == batch.state_to.shape == (1, 0)
    assert_same(decode(encode(batch)), batch)


def test_forward_seconds_are_those_of_the_last_step() -> None:
    now = 0.0

    def forward(batch: ForwardBatch, _: CacheTensors, __: LayerDone | None) -> Tensor:
        nonlocal now
        now += len(batch.token_ids)
        return torch.zeros(len(batch.logit_rows), 10)

    runner = ModelRunner(forward, allocate_cache(SHAPE, 1, PAGE), build_drawer(Path(), ()), clock=lambda: now)
    one, found = sequence("one", 5, (0, 1)), []
    for start, end in ((0, 3), (3, 5)):
        runner.run(StepPlan((), (Chunk(one, start, end, OWN, OWN),)), lambda _: None)
        found.append(runner.forward_seconds)
    assert found == [3, 2]


@pytest.mark.parametrize(("raised", "seen"), [(torch.AcceleratorError, DeviceError), (RuntimeError, RuntimeError)])
def test_a_broken_device_is_not_a_failed_step(raised: type[Exception], seen: type[Exception]) -> None:
    def forward(_: ForwardBatch, __: CacheTensors, ___: LayerDone | None) -> Tensor:
        raise raised("an illegal memory access was encountered")

    runner = ModelRunner(forward, allocate_cache(SHAPE, 1, PAGE), build_drawer(Path(), ()))
    with pytest.raises(seen, match="illegal memory access") as found:
        runner.run(StepPlan((decoding(),), ()), lambda _: None)
    assert type(found.value) is seen
