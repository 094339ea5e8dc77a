"""SendSession against ReceiveSession over lines that a test breaks: once they hold, every transfer commits, once."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from prfaas.wire.header import Kind, ObjectKey
from prfaas.wire.messages import encode
from prfaas.wire.receiving import Phase
from prfaas.wire.sending import Summary
from tests.wire.small import EXPECTATION, OPEN, PIECES, SHAPE, TOKENS, content
from tests.wire.two_sides import Frame, Line, ReceivingEnd, SendingEnd, frame, read

MAX_LINES = 4
SUMMARY = Summary(first_token_id=42, tokens_computed=TOKENS, tokens_reused=0, queue_ms=1.0, prefill_ms=2.0)
ALL_ROWS = {
    (layer, tensor, row): content(ObjectKey(layer, tensor, row, row + 1))
    for layer, tensor in EXPECTATION.tensors()
    for row in EXPECTATION.rows(layer, tensor)
}


def flipped(sent: Frame, bit: int) -> Frame:
    """As it arrives where TCP's checksum did not see it."""
    payload = bytearray(sent[1])
    payload[bit // 8] ^= 1 << bit % 8
    return sent[0], bytes(payload)


def test_an_object_that_comes_corrupt_twice_before_anything_is_acknowledged() -> None:
    """The second RESEND is for the second sending, though the first is still unacknowledged."""
    sender, receiver, line = SendingEnd(), ReceivingEnd(), Line()
    key = ObjectKey(1, 0, 0, 10)
    sender.session.add(key)
    sender.push(line)
    receiver.take(line)
    sender.hear(line)
    for attempt in (1, 2):
        assert sender.push(line)
        line.forward[0] = flipped(line.forward[0], attempt)
        receiver.take(line)
        receiver.take(line)
        sender.hear(line)
    assert sender.push(line), "the object goes a third time"
    receiver.take(line)
    receiver.take(line)
    assert receiver.session.verified_tokens() == TOKENS
    assert receiver.session.bytes_again == 2 * len(content(key)) == sender.session.bytes_again


class TwoSides(RuleBasedStateMachine):
    """Up to four lines at once; of a broken one the receiver may go on reading for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.sender, self.receiver = SendingEnd(), ReceivingEnd()
        self.lines = [Line(), Line()]
        self.broken: list[Line] = []
        self.corrupted = False

    @initialize(singly=st.booleans(), count=st.integers(0, 15))
    def start(self, singly: bool, count: int) -> None:
        """The transfer is open, and some objects are on their way."""
        rows = [ObjectKey(*row, row[2] + 1) for row in ALL_ROWS]
        self.left = rows if singly else list(PIECES)
        self.finished = False
        first = self.lines[0]
        for step in (self.sender.push, self.receiver.take, self.sender.hear):
            step(first)
        self.compute(count)
        for number in range(count):
            self.sender.push(self.lines[number % 2])

    def drawn_line(self, data: st.DataObject) -> Line:
        return self.lines[data.draw(st.integers(0, len(self.lines) - 1))]

    @rule(count=st.integers(1, 9))
    def compute(self, count: int) -> None:
        """The prefill goes on by some objects, or is over."""
        for _ in range(min(count, len(self.left))):
            self.sender.session.add(self.left.pop())
        if not self.left and not self.finished:
            self.finished = True
            self.sender.session.finish(SUMMARY)

    @precondition(lambda self: self.lines)
    @rule(data=st.data(), times=st.integers(1, 9))
    def push(self, data: st.DataObject, times: int) -> None:
        line = self.drawn_line(data)
        for _ in range(times):
            self.sender.push(line)

    @precondition(lambda self: any(line.forward for line in self.lines + self.broken))
    @rule(data=st.data(), times=st.integers(1, 5))
    def deliver(self, data: st.DataObject, times: int) -> None:
        carrying = [line for line in self.lines + self.broken if line.forward]
        line = data.draw(st.sampled_from(carrying))
        for _ in range(times):
            if line.forward:
                self.receiver.take(line)

    @precondition(lambda self: self.lines)
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        self.receiver.acknowledge(self.drawn_line(data))

    @precondition(lambda self: self.lines)
    @rule(data=st.data())
    def round_trip(self, data: st.DataObject) -> None:
        """All that a line carries arrives and is answered."""
        self.exchange(self.drawn_line(data))

    def exchange(self, line: Line) -> None:
        self.sender.push(line)
        while line.forward:
            self.receiver.take(line)
        self.receiver.acknowledge(line)
        while line.back:
            self.sender.hear(line)

    @precondition(lambda self: any(line.back for line in self.lines))
    @rule(data=st.data(), times=st.integers(1, 5))
    def answer(self, data: st.DataObject, times: int) -> None:
        line = data.draw(st.sampled_from([line for line in self.lines if line.back]))
        for _ in range(times):
            if line.back:
                self.sender.hear(line)

    @precondition(lambda self: len(self.lines) < MAX_LINES)
    @rule()
    def connect(self) -> None:
        self.lines.append(Line())

    @precondition(lambda self: self.lines)
    @rule(data=st.data(), noticed=st.booleans())
    def break_line(self, data: st.DataObject, noticed: bool) -> None:
        line = self.drawn_line(data)
        self.lines.remove(line)
        self.sender.lose(line)
        if noticed:
            self.receiver.lose(line)
        else:
            self.broken.append(line)

    @precondition(lambda self: self.broken)
    @rule()
    def notice(self) -> None:
        self.receiver.lose(self.broken.pop())

    @precondition(lambda self: any(read(sent)[0].kind is Kind.OBJECT for line in self.lines for sent in line.forward))
    @rule(data=st.data())
    def corrupt(self, data: st.DataObject) -> None:
        places = [
            (line, at)
            for line in self.lines
            for at, sent in enumerate(line.forward)
            if read(sent)[0].kind is Kind.OBJECT
        ]
        line, at = data.draw(st.sampled_from(places))
        bits = len(line.forward[at][1]) * 8
        line.forward[at] = flipped(line.forward[at], data.draw(st.integers(0, bits - 1)))

    @precondition(lambda self: self.lines)
    @rule(data=st.data())
    def ask_again(self, data: st.DataObject) -> None:
        """An OPEN may come at any time."""
        if self.sender.session.open_due:
            return
        self.drawn_line(data).forward.append(frame(Kind.OPEN, encode(OPEN)))

    @invariant()
    def memory_holds_only_what_was_sent(self) -> None:
        assert all(ALL_ROWS[row] == found for row, found in self.receiver.memory.items())
        assert self.receiver.commits == (self.receiver.session.phase is Phase.COMMITTED) <= self.finished
        assert self.sender.committed == 0 or self.receiver.commits == 1

    def teardown(self) -> None:
        if not hasattr(self, "left"):
            return
        self.settle()
        assert self.receiver.session.phase is Phase.COMMITTED
        assert self.sender.committed > 0
        assert self.receiver.memory == ALL_ROWS
        whole = SHAPE.cache_bytes(TOKENS)
        session = self.receiver.session
        assert session.bytes_raw == session.bytes_wire == self.sender.session.bytes_raw == whole
        assert self.sender.session.bytes_wire == whole + self.sender.session.bytes_again

    def settle(self) -> None:
        """From here on nothing breaks: everything goes through within so many rounds."""
        self.compute(len(self.left))
        while self.broken:
            self.notice()
        if not self.lines:
            self.connect()
        for _ in range(200):
            for line in self.lines:
                self.exchange(line)
            if self.sender.committed:
                return


TwoSides.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestTwoSides = TwoSides.TestCase
