"""ReceiveSession beside a model of it: whatever several connections do, in whatever order."""

from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from prfaas.core.errors import ManifestError, TicketError
from prfaas.core.shape import CacheTensor, LayerCache, ModelShape
from prfaas.wire.header import Codec, FrameHeader, Kind, ObjectKey
from prfaas.wire.messages import Manifest, ManifestObject, Open
from prfaas.wire.receiving import Landing, Phase, ReceiveSession
from prfaas.wire.tensors import Expectation, usable_codecs
from tests.wire.small import TRANSFER, entry_of, pieces

TOKENS, HELD = 6, 2
SHAPE = ModelShape(
    "small",
    (
        LayerCache(
            "gqa", paged=True, tensors=(CacheTensor("k", (2, 8), "bfloat16"), CacheTensor("v", (8,), "bfloat16"))
        ),
        LayerCache("lightning", paged=False, tensors=(CacheTensor("state", (2, 4, 4), "float32"),)),
    ),
    max_context_tokens=64,
)
EXPECTATION = Expectation(SHAPE, {"bfloat16": SHAPE}, "f", TOKENS, b"s" * 16, HELD, frozenset(Codec))
OPEN = Open(b"s" * 16, "f", TOKENS, HELD, "bfloat16")
WRONG = [{"secret": b"t" * 16}, {"model_fingerprint": "g"}, {"prompt_tokens": 7}, {"held_tokens": 1}]
CONNECTIONS = st.integers(0, 3)

Row = tuple[int, int, int]


def rows_of(key: ObjectKey) -> set[Row]:
    return {(key.layer, key.tensor, row) for row in range(key.start, key.end)}


ALL_ROWS = {(*tensor, row) for tensor in EXPECTATION.tensors() for row in EXPECTATION.rows(*tensor)}


@dataclass
class Model:
    """What the session should know, row by row."""

    arrived: dict[Row, FrameHeader] = field(default_factory=dict)
    flying: dict[ObjectKey, Landing] = field(default_factory=dict)
    manifest: Manifest | None = None
    phase: Phase = Phase.OFFERED
    commits: int = 0
    wire: int = 0
    again: int = 0

    def matches(self) -> bool:
        """Every row that must cross came in an object that the manifest lists."""
        assert self.manifest is not None
        listed = {ObjectKey(o.layer, o.tensor, o.start, o.end): o for o in self.manifest.objects}
        return all(
            row in self.arrived and listed.get(self.arrived[row].key) == entry_of(self.arrived[row]) for row in ALL_ROWS
        )

    def tokens(self) -> int:
        for token in range(HELD, TOKENS):
            if (0, 0, token) not in self.arrived or (0, 1, token) not in self.arrived:
                return token
        return TOKENS


class ReceivingMachine(RuleBasedStateMachine):
    """Connections 0 to 3 bring true objects, other cuts, other contents; each has at most one payload under way."""

    def __init__(self) -> None:
        super().__init__()
        self.session = ReceiveSession(EXPECTATION)
        self.model = Model()
        self.busy: dict[int, Landing] = {}

    @initialize(data=st.data())
    def cut(self, data: st.DataObject) -> None:
        """What an honest sender would send."""
        self.truth = [self.header_of(key, data, digest=1) for key in data.draw(pieces(EXPECTATION))]

    def header_of(self, key: ObjectKey, data: st.DataObject, digest: int) -> FrameHeader:
        codec = data.draw(st.sampled_from(sorted(usable_codecs(SHAPE, key.layer, key.tensor))))
        raw = EXPECTATION.raw_bytes(key, SHAPE)
        wire = raw if codec is Codec.RAW else data.draw(st.integers(1, raw))
        return FrameHeader(Kind.OBJECT, TRANSFER, 1, key, codec, raw, wire, digest)

    @rule()
    def open(self) -> None:
        if self.model.phase is Phase.FAILED:
            with pytest.raises(TicketError):
                self.session.open(OPEN)
            return
        received = self.session.open(OPEN)
        told = {(r.layer, r.tensor, row) for r in received for row in range(r.start, r.end)}
        assert told == set(self.model.arrived)
        if self.model.phase is Phase.OFFERED:
            self.model.phase = Phase.OPEN

    @rule(change=st.sampled_from(WRONG))
    def open_wrongly(self, change: dict[str, Any]) -> None:
        with pytest.raises((TicketError, ManifestError)):
            self.session.open(msgspec.structs.replace(OPEN, **change))

    def begin(self, header: FrameHeader, connection: int) -> None:
        if connection in self.busy:
            return
        model, rows = self.model, rows_of(header.key)
        whole = any(arrived.key == header.key for arrived in model.arrived.values())
        part = not whole and any(
            other != header.key and not rows.isdisjoint(rows_of(other))
            for other in [*model.flying, *(arrived.key for arrived in model.arrived.values())]
        )
        if model.phase is not Phase.OPEN or part:
            with pytest.raises(ManifestError if part and model.phase is Phase.OPEN else TicketError):
                self.session.begin(header)
            return
        landing = self.session.begin(header)
        assert (landing is None) == whole
        if landing is None:
            model.again += header.wire_bytes
        else:
            self.busy[connection] = model.flying[header.key] = landing

    @rule(data=st.data(), connection=CONNECTIONS)
    def begin_truly(self, data: st.DataObject, connection: int) -> None:
        self.begin(data.draw(st.sampled_from(self.truth)), connection)

    @rule(data=st.data(), connection=CONNECTIONS)
    def begin_with_another_cut(self, data: st.DataObject, connection: int) -> None:
        layer, tensor = data.draw(st.sampled_from(list(EXPECTATION.tensors())))
        rows = EXPECTATION.rows(layer, tensor)
        start = data.draw(st.integers(rows.start, rows.stop - 1))
        key = ObjectKey(layer, tensor, start, data.draw(st.integers(start + 1, rows.stop)))
        self.begin(self.header_of(key, data, digest=data.draw(st.integers(1, 2))), connection)

    @precondition(lambda self: self.busy)
    @rule(data=st.data(), intact=st.booleans())
    def finish(self, data: st.DataObject, intact: bool) -> None:
        """A payload is complete, or was corrupt, or its connection has ended."""
        model = self.model
        landing = self.busy.pop(data.draw(st.sampled_from(sorted(self.busy))))
        header = landing.header
        counts = model.phase is Phase.OPEN and model.flying.get(header.key) is landing
        assert self.session.current(landing) == counts
        assert (self.session.placed if intact else self.session.dropped)(landing) == counts
        if counts:
            del model.flying[header.key]
        if counts and intact:
            model.arrived |= dict.fromkeys(rows_of(header.key), header)
            model.wire += header.wire_bytes
        else:
            model.again += header.wire_bytes

    def bring(self, manifest: Manifest) -> None:
        model = self.model
        if model.phase is not Phase.OPEN:
            with pytest.raises(TicketError):
                self.session.manifest(manifest)
        elif model.manifest not in (None, manifest):
            with pytest.raises(ManifestError):
                self.session.manifest(manifest)
        else:
            self.session.manifest(manifest)
            model.manifest = manifest

    def manifest_of(self, objects: list[ManifestObject]) -> Manifest:
        return Manifest(TOKENS, HELD, 42, tuple(objects), TOKENS, 0, 1.0, 2.0)

    @rule()
    def manifest(self) -> None:
        self.bring(self.manifest_of([entry_of(header) for header in self.truth]))

    @rule(data=st.data())
    def lying_manifest(self, data: st.DataObject) -> None:
        objects = [entry_of(header) for header in self.truth]
        which = data.draw(st.integers(0, len(objects) - 1))
        objects[which] = msgspec.structs.replace(objects[which], digest=3)
        self.bring(self.manifest_of(objects))

    @rule(data=st.data())
    def incomplete_manifest(self, data: st.DataObject) -> None:
        objects = [entry_of(header) for header in self.truth]
        del objects[data.draw(st.integers(0, len(objects) - 1))]
        with pytest.raises((TicketError, ManifestError)):
            self.session.manifest(self.manifest_of(objects))

    @rule()
    def commit(self) -> None:
        model = self.model
        ready = model.phase is Phase.OPEN and model.manifest is not None and model.matches()
        try:
            committed = self.session.commit()
        except ManifestError:
            assert not ready
            assert model.phase is Phase.OPEN
            self.fail()
            return
        assert committed == (model.manifest if ready else None)
        if ready:
            model.phase = Phase.COMMITTED
            model.commits += 1

    @rule()
    def everything_arrives(self) -> None:
        """So that commits are not rare."""
        for header in self.truth:
            self.begin(header, connection=4)
            if 4 in self.busy:
                self.model.flying.pop(header.key)
                landing = self.busy.pop(4)
                assert self.session.placed(landing)
                self.model.arrived |= dict.fromkeys(rows_of(header.key), header)
                self.model.wire += header.wire_bytes

    @precondition(lambda self: len(self.busy) > 2)
    @rule()
    def fail(self) -> None:
        self.session.fail()
        if self.model.phase is not Phase.COMMITTED:
            self.model.phase = Phase.FAILED
            self.model.flying.clear()

    @invariant()
    def agrees_with_the_model(self) -> None:
        session, model = self.session, self.model
        assert session.phase is model.phase
        assert model.commits <= 1
        assert session.verified_tokens() == model.tokens()
        assert (session.bytes_wire, session.bytes_again) == (model.wire, model.again)
        arrived = set(model.arrived.values())
        assert session.bytes_raw == sum(header.raw_bytes for header in arrived)
        assert session.codecs == {header.codec for header in arrived}


ReceivingMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestReceiving = ReceivingMachine.TestCase
