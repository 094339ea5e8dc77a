"""Both ends of the line: every message arrives as it was, in order, and no stranger gets in."""

import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.cache.changes import Cleared, Removed, Stored
from prfaas.core.ids import BlockHash, RequestId
from prfaas.core.request import FinishReason, Request, SamplingParams
from prfaas.engine.link import EngineLink, FrontLink, connect, listen
from prfaas.engine.messages import (
    Admitted,
    BeginDecode,
    CacheChanged,
    Command,
    DiskStats,
    Event,
    Failed,
    Generated,
    LayerDone,
    NotReady,
    Preempted,
    Prefilled,
    PrefillHere,
    PrefixStats,
    Progressed,
    Ready,
    Release,
    Stats,
    Stepped,
    Stop,
    Submit,
)
from prfaas.scheduler.sequence import Mode

ID = RequestId("r#1")
NAME = BlockHash(bytes(range(16)))
EVENTS: list[Event] = [
    Ready("f" * 32, 163_840, compiled_kernels=True),
    NotReady("model_invalid", "model.safetensors: no tensor 'x'"),
    Admitted(ID, (5, 2, 1_000_000), (3, 9), 0.25, 64, 128),
    LayerDone(ID, 26, 0, 1024),
    Progressed(ID, 1024),
    Prefilled(ID, 7, 64, 0.5, 1.5),
    Generated(ID, 163_839, None),
    Generated(ID, 0, FinishReason.STOP),
    Failed(ID, "engine_failed", "the engine step failed", "step"),
    Preempted(ID),
    Stepped(0.006, 0.005, 8, 1024),
    CacheChanged((Stored("kv", NAME, None, (1, 2)), Stored("state", NAME, None, ()), Removed("kv", NAME), Cleared())),
    Stats(1, 2, 3, 4, 5, 6, PrefixStats(7, 8, 9, disk=DiskStats(10, off=True)), 11),
]


@pytest.fixture
def ends() -> Iterator[tuple[FrontLink, EngineLink]]:
    front = listen()
    engine = connect(os.dup(front.fd))
    yield front, engine
    engine.close()
    front.close()


def test_events_arrive_as_they_were_sent_batch_by_batch(ends: tuple[FrontLink, EngineLink]) -> None:
    front, engine = ends
    engine.send(EVENTS)
    engine.send(EVENTS[:1])
    assert front.take(wait=True) == EVENTS
    assert front.take(wait=True) == EVENTS[:1]
    assert front.take(wait=False) == []


def test_another_thread_ends_a_wait_with_nothing(ends: tuple[FrontLink, EngineLink]) -> None:
    front, engine = ends
    threading.Timer(0.05, engine.wake).start()
    assert engine.take(wait=True) == []
    engine.wake()  # nobody waits: the next one who would is told
    assert engine.take(wait=True) == []
    front.send([Stop()])
    assert engine.take(wait=True) == [Stop()]
    assert engine.take(wait=True, at_most_s=0.01) == []


sampling = st.builds(
    SamplingParams,
    max_tokens=st.integers(1, 1 << 20),
    temperature=st.floats(0, 2),
    top_p=st.floats(0.01, 1),
    seed=st.integers(0, 2**63 - 1),
    stop_token_ids=st.frozensets(st.integers(0, 1 << 20), max_size=4),
    ignore_eos=st.booleans(),
)
requests = st.builds(
    Request, st.just(ID), st.lists(st.integers(0, 1 << 20), min_size=1, max_size=50).map(tuple), sampling
)


@given(st.lists(st.builds(Submit, requests, st.sampled_from(Mode)), max_size=3))
def test_commands_arrive_as_they_were_sent(submits: list[Submit]) -> None:
    front = listen()
    engine = connect(os.dup(front.fd))
    # Only what has come from there proves that the other end is there.
    engine.send([Ready("", 1, compiled_kernels=False)])
    front.take(wait=True)
    commands: list[Command] = [*submits, BeginDecode(ID, 5), PrefillHere(ID), Release(ID), Stop()]
    assert front.send(commands)
    assert engine.take(wait=True) == commands
    engine.close()
    front.close()


def test_nothing_lies_in_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    link = listen()
    assert list(tmp_path.iterdir()) == []
    link.close()


def test_a_second_engine_is_refused(ends: tuple[FrontLink, EngineLink]) -> None:
    front, engine = ends
    engine.send(EVENTS[:1])
    assert front.take(wait=True) == EVENTS[:1]
    second = connect(os.dup(front.fd))
    second.send([NotReady("x", "y")])
    engine.send(EVENTS[1:2])
    assert front.take(wait=True) == EVENTS[1:2]
    front.send([Stop()])
    assert engine.take(wait=True) == [Stop()]
    assert second.take(wait=False) == []
    assert front.take(wait=False) == []
    second.close()


def test_the_front_learns_that_nobody_is_there() -> None:
    front = listen()
    assert not front.send([Stop()])
    front.close()


def test_last_words_are_heard() -> None:
    front = listen()
    engine = connect(os.dup(front.fd))
    engine.send(EVENTS)
    engine.close()
    assert front.take(wait=True) == EVENTS
    front.close()
