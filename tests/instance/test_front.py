"""The front with an engine that only talks: real sockets, scripted words."""

import asyncio
import os
from collections.abc import AsyncIterator

import pytest
from prometheus_client import CollectorRegistry

from prfaas.core.errors import CancelledError, CapacityError, EngineError, UnsupportedModelError
from prfaas.core.ids import RequestId
from prfaas.core.request import FinishReason, Request, SamplingParams
from prfaas.engine.link import connect, listen
from prfaas.engine.messages import (
    Admitted,
    Command,
    Event,
    Failed,
    Generated,
    LayerDone,
    NotReady,
    Preempted,
    Ready,
    Release,
    Stats,
    Stepped,
    Stop,
    Submit,
)
from prfaas.instance.front import Front, nobody_listens
from prfaas.instance.stream import RequestStream
from prfaas.scheduler.sequence import Mode
from prfaas.telemetry.metrics import InstanceMetrics
from tests.eventually import eventually_async

REQUEST = Request(RequestId("r"), (1, 2), SamplingParams(max_tokens=3))


class TalkingEngine:
    """An `EngineHost`, and the engine's end of the line in the test's hand."""

    def __init__(self) -> None:
        front_link = listen()
        self._link = connect(os.dup(front_link.fd))
        self._end: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.metrics = InstanceMetrics(CollectorRegistry())
        self.front = Front(front_link, self, self.metrics, Stats(pages_total=9), nobody_listens)
        self.stopped_within_s: float | None = None

    def say(self, *events: Event) -> None:
        self._link.send(events)

    async def heard(self) -> list[Command]:
        """The next batch, which the front sends once this test waits."""
        return await asyncio.to_thread(self._link.take, wait=True)

    def die(self, how: str) -> None:
        self._end.set_result(how)

    async def ended(self) -> str:
        return await asyncio.shield(self._end)

    async def stop(self, within_s: float) -> None:
        self.stopped_within_s = within_s

    def close(self) -> None:
        self._link.close()


@pytest.fixture
async def engine() -> AsyncIterator[TalkingEngine]:
    made = TalkingEngine()
    yield made
    await made.front.stop()
    made.close()


@pytest.fixture
async def ready(engine: TalkingEngine) -> TalkingEngine:
    engine.say(Ready("f", 100, compiled_kernels=True))
    assert await engine.front.ready() == Ready("f", 100, compiled_kernels=True)
    return engine


async def test_events_go_to_their_request_alone(ready: TalkingEngine) -> None:
    streams = [ready.front.open(REQUEST, Mode.SERVE) for _ in range(2)]
    ids = [stream.request_id for stream in streams]
    assert len(set(ids)) == 2
    submits = await ready.heard()
    assert [s.request.request_id for s in submits if isinstance(s, Submit)] == ids
    ready.say(*(Generated(i, token, None) for token, i in enumerate([*ids, *ids[:1], "stranger"])))  # type: ignore[arg-type]
    first, second, third = await streams[0].next(), await streams[1].next(), await streams[0].next()
    assert [e.token_id for e in (first, second, third) if isinstance(e, Generated)] == [0, 1, 2]


async def test_what_is_asked_for_at_once_travels_in_one_batch(ready: TalkingEngine) -> None:
    stream = ready.front.open(REQUEST, Mode.EXPORT)
    stream.close()
    commands = await ready.heard()
    assert [type(command) for command in commands] == [Submit, Release]
    assert ready.front.num_open == 0


async def test_a_listener_sees_layers_that_readers_do_not(ready: TalkingEngine) -> None:
    seen: list[Event] = []
    stream = ready.front.open(REQUEST, Mode.EXPORT, seen.append)
    events: list[Event] = [Admitted(stream.request_id, (1,), (2,), 0.1, 0, 0), LayerDone(stream.request_id, 0, 0, 2)]
    ready.say(*events, Generated(stream.request_id, 5, None))
    assert await stream.next() == events[0]
    assert isinstance(await stream.next(), Generated)
    assert seen[:2] == events


async def test_failures_are_typed_and_counted_by_reason(ready: TalkingEngine) -> None:
    streams = [ready.front.open(REQUEST, Mode.SERVE) for _ in range(2)]
    ready.say(Failed(streams[0].request_id, "capacity_exceeded", "too long"))
    ready.say(Failed(streams[1].request_id, "engine_failed", "not finite", "nan"))
    with pytest.raises(CapacityError, match="too long"):
        await streams[0].next()
    with pytest.raises(EngineError, match="not finite"):
        await streams[1].next()
    count = ready.metrics.registry.get_sample_value
    assert count("prfaas_engine_failures_total", {"reason": "nan"}) == 1
    assert count("prfaas_engine_failures_total", {"reason": "step"}) is None


async def test_steps_and_readings_become_metrics(ready: TalkingEngine) -> None:
    assert ready.front.stats.pages_total == 9
    ready.say(Stepped(0.5, 0.4, 3, 40), Preempted(RequestId("x")), Stats(pages_used=4, layers_computed=7))
    await eventually_async(lambda: ready.front.stats.layers_computed == 7)
    count = ready.metrics.registry.get_sample_value
    assert count("prfaas_engine_steps_total") == 1
    assert count("prfaas_engine_step_seconds_sum") == 0.5
    assert count("prfaas_engine_forward_seconds_sum") == 0.4
    assert count("prfaas_engine_tokens_total", {"phase": "decode"}) == 3
    assert count("prfaas_engine_tokens_total", {"phase": "prefill"}) == 40
    assert count("prfaas_preemptions_total") == 1


async def test_an_engine_that_cannot_load_raises_what_it_said(engine: TalkingEngine) -> None:
    engine.say(NotReady("model_unsupported", "gpt2 is not implemented"))
    with pytest.raises(UnsupportedModelError, match="gpt2"):
        await engine.front.ready()
    engine.die("the engine ended with code 1")
    await engine.front.stop()
    assert not engine.front.engine_died.is_set()


async def test_an_engine_that_ends_before_it_is_ready(engine: TalkingEngine) -> None:
    engine.die("the engine was killed by SIGKILL")
    with pytest.raises(EngineError, match="killed by SIGKILL before it was ready"):
        await engine.front.ready()


async def test_the_end_of_the_engine_fails_all_requests(ready: TalkingEngine) -> None:
    stream = ready.front.open(REQUEST, Mode.SERVE)
    ready.die("the engine was killed by SIGSEGV")
    with pytest.raises(EngineError, match="SIGSEGV"):
        await stream.next()
    assert ready.front.engine_died.is_set()
    with pytest.raises(EngineError):
        ready.front.open(REQUEST, Mode.SERVE)


async def test_stop_tells_the_engine_and_later_commands_do_no_harm(ready: TalkingEngine) -> None:
    stream = ready.front.open(REQUEST, Mode.EXPORT)
    await ready.heard()
    stopping = asyncio.create_task(ready.front.stop())
    assert await ready.heard() == [Stop()]
    await stopping
    assert ready.stopped_within_s
    stream.release()
    await asyncio.sleep(0)


async def test_an_engine_that_still_loads_is_given_no_time(engine: TalkingEngine) -> None:
    await engine.front.stop()
    assert engine.stopped_within_s == 0


async def test_what_the_model_computes_on_is_told(engine: TalkingEngine) -> None:
    engine.say(Ready("f", 100, compiled_kernels=False, device="NVIDIA H200"))
    await engine.front.ready()
    found = engine.metrics.registry.get_sample_value("prfaas_engine_device", {"device": "NVIDIA H200"})
    assert found == 1


async def followed(ready: TalkingEngine) -> tuple[RequestStream, list[int], "asyncio.Task[FinishReason]"]:
    """A request whose tokens are followed; one came before anybody followed, after the first."""
    stream, taken = ready.front.open(REQUEST, Mode.SERVE), list[int]()
    ready.say(Generated(stream.request_id, 1, None), Generated(stream.request_id, 2, None))
    first = await stream.next()
    assert isinstance(first, Generated)
    following = asyncio.create_task(stream.follow(first, lambda token: taken.append(token.token_id)))
    await eventually_async(lambda: taken == [1, 2])
    return stream, taken, following


async def test_a_follower_gets_all_tokens_in_order_and_the_reader_the_reason(ready: TalkingEngine) -> None:
    stream, taken, following = await followed(ready)
    ready.say(Preempted(stream.request_id), Generated(stream.request_id, 3, None))
    ready.say(Generated(stream.request_id, 4, FinishReason.LENGTH), Generated(stream.request_id, 5, None))
    assert await following is FinishReason.LENGTH
    await eventually_async(lambda: taken == [1, 2, 3, 4])


async def test_what_breaks_a_followed_request_is_raised(ready: TalkingEngine) -> None:
    stream, taken, following = await followed(ready)
    ready.say(Failed(stream.request_id, "engine_failed", "not finite"), Generated(stream.request_id, 3, None))
    with pytest.raises(EngineError, match="not finite"):
        await following
    assert taken == [1, 2]


async def test_a_followed_request_can_be_interrupted_or_its_reader_cancelled(ready: TalkingEngine) -> None:
    for end in ("interrupted", "cancelled"):
        stream, taken, following = await followed(ready)
        if end == "interrupted":
            stream.interrupt()
            with pytest.raises(CancelledError):
                await following
        else:
            following.cancel()
            await asyncio.wait([following])
        stream.interrupt()
        ready.say(Generated(stream.request_id, 3, FinishReason.STOP))
        other = ready.front.open(REQUEST, Mode.SERVE)
        ready.say(Generated(other.request_id, 9, None))
        await other.next()
        assert taken == [1, 2]
