"""Properties under random traffic: everything ends with the model's tokens, in bounded steps, and nothing leaks."""

from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from prfaas.core.errors import CapacityError, NoRoomError, PrefixGoneError
from prfaas.core.ids import RequestId
from prfaas.core.request import Request
from prfaas.scheduler.sequence import Mode, Phase
from tests.scheduler.fake_instance import PAGE, FakeInstance, request, whole_answer

SECONDS = st.floats(1e-4, 10.0)
PROMPTS = st.builds(
    lambda length, cut, other: tuple(range(min(cut, length))) + tuple(range(other, other + length - min(cut, length))),
    st.integers(1, 40),
    st.integers(0, 40),
    st.sampled_from((100, 200)),
)
"""Tokens that agree with those of other prompts up to anywhere."""
PREFIXES = PROMPTS.filter(lambda prompt: len(prompt) >= PAGE).map(lambda prompt: prompt[: len(prompt) // PAGE * PAGE])
"""Whole blocks of them."""


class SchedulerMachine(RuleBasedStateMachine):
    """All modes mixed; KV comes, fails to come, or its receiver lets go; clients give up at any moment. Prefixes come
    from other instances' caches and go to them."""

    @initialize(
        pages=st.integers(3, 20),
        slots=st.integers(1, 5),
        spare=st.integers(1, 24),
        cached=st.booleans(),
        state_pages=st.integers(0, 2),
        snapshot_every=st.sampled_from((0, 2 * PAGE, 4 * PAGE)),
        answer_every=st.sampled_from((0, PAGE, 3 * PAGE)),
    )
    def start(
        self, pages: int, slots: int, spare: int, cached: bool, state_pages: int, snapshot_every: int, answer_every: int
    ) -> None:
        self.instance = FakeInstance(
            pages,
            slots,
            slots + spare,
            cached=cached,
            state_pages=state_pages,
            snapshot_every=snapshot_every,
            answer_every=answer_every,
        )
        self.asked: dict[str, tuple[Request, Mode]] = {}
        self.given_up: set[str] = set()
        self.delivered: set[str] = set()
        self.moves = count()
        self.lent: list[Request] = []
        self.coming: list[Request] = []

    @rule(
        prompt=PROMPTS,
        max_tokens=st.integers(1, 24),
        mode=st.sampled_from(Mode),
        ignore_eos=st.booleans(),
        salt=st.sampled_from(("", "", "theirs")),
    )
    def submit(self, prompt: tuple[int, ...], max_tokens: int, mode: Mode, ignore_eos: bool, salt: str) -> None:
        name = f"r{len(self.asked)}"
        tokens = len(prompt) if mode is Mode.EXPORT else len(prompt) + max_tokens - 1
        room = (self.instance.pages.size - self.instance.cache.state_pages) * PAGE
        try:
            self.instance.add(name, prompt, max_tokens, mode, ignore_eos=ignore_eos, salt=salt)
        except CapacityError:
            assert tokens > room
            return
        assert tokens <= room
        self.asked[name] = self.instance.get(name).request, mode

    @rule(seconds=st.none() | SECONDS, count=st.integers(1, 8))
    def steps(self, seconds: float | None, count: int) -> None:
        for _ in range(count):
            self.instance.step(seconds)

    @precondition(lambda self: self.phase(Phase.RESERVED))
    @rule(data=st.data(), comes=st.booleans(), lossy=st.booleans())
    def transfer_ends(self, data: st.DataObject, comes: bool, lossy: bool) -> None:
        name = data.draw(st.sampled_from(self.phase(Phase.RESERVED)))
        if comes:
            self.delivered.add(name)
            self.instance.deliver(name)
        else:
            tokens = self.instance.get(name).request.prompt_tokens
            self.instance.fail(name, data.draw(st.integers(0, tokens)), lossy=lossy)

    @precondition(lambda self: self.phase(Phase.HELD))
    @rule(data=st.data())
    def receiver_lets_go(self, data: st.DataObject) -> None:
        self.instance.release(data.draw(st.sampled_from(self.phase(Phase.HELD))))

    @precondition(lambda self: self.phase(Phase.PREFILL, Mode.EXPORT))
    @rule(data=st.data())
    def export_fails(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.phase(Phase.PREFILL, Mode.EXPORT)))
        self.instance.scheduler.hold(RequestId(name))
        self.given_up.add(name)

    @precondition(lambda self: self.phase(Phase.DECODE))
    @rule(data=st.data())
    def logits_are_not_finite(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.phase(Phase.DECODE)))
        self.instance.scheduler.invalidate(RequestId(name))
        self.instance.release(name)
        self.given_up.add(name)

    @precondition(lambda self: self.known())
    @rule(data=st.data())
    def client_gives_up(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.known()))
        self.instance.release(name)
        self.given_up.add(name)

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), blocks=st.integers(1, 10), all_of_it=st.booleans())
    def lend(self, data: st.DataObject, blocks: int, all_of_it: bool) -> None:
        like, _ = self.asked[data.draw(st.sampled_from(sorted(self.asked)))]
        usable = self.instance.cache.match(self.instance.scheduler.names(like)).usable_blocks
        blocks = usable if all_of_it and usable else min(blocks, like.prompt_tokens // PAGE)
        if not blocks:
            return
        asked = request(f"lent{next(self.moves)}", like.prompt_token_ids[: blocks * PAGE], salt=like.cache_salt)
        try:
            self.instance.lend(asked)
            self.lent.append(asked)
        except PrefixGoneError:
            assert blocks != usable

    @rule(prompt=PREFIXES, salt=st.sampled_from(("", "", "theirs")))
    def reserve(self, prompt: tuple[int, ...], salt: str) -> None:
        asked = request(f"coming{next(self.moves)}", prompt, salt=salt)
        try:
            if self.instance.reserve(asked):
                self.coming.append(asked)
        except NoRoomError:
            return

    @precondition(lambda self: self.lent)
    @rule(data=st.data())
    def lent_prefix_is_sent(self, data: st.DataObject) -> None:
        asked = data.draw(st.sampled_from(self.lent))
        self.lent.remove(asked)
        self.instance.moves.release(asked.request_id)

    @precondition(lambda self: self.coming)
    @rule(data=st.data(), comes=st.booleans(), lossy=st.booleans())
    def prefix_ends(self, data: st.DataObject, comes: bool, lossy: bool) -> None:
        asked = data.draw(st.sampled_from(self.coming))
        self.coming.remove(asked)
        if not comes:
            self.instance.moves.release(asked.request_id)
        elif self.instance.arrive(asked, lossy=lossy):
            hashes = self.instance.scheduler.names(asked)
            assert self.instance.cache.match(hashes).usable_blocks == len(hashes)

    @invariant()
    def memory_is_sound(self) -> None:
        self.instance.check_memory()

    def teardown(self) -> None:
        if not hasattr(self, "instance"):
            return
        for asked in (*self.lent, *self.coming):
            self.instance.moves.release(asked.request_id)
        for _ in range(self.step_bound()):
            if not self.known():
                break
            for name in self.phase(Phase.RESERVED):
                self.delivered.add(name)
                self.instance.deliver(name)
            for name in self.phase(Phase.HELD):
                self.instance.release(name)
            self.instance.step()
        assert self.instance.empty()
        for name, (asked, mode) in self.asked.items():
            self.check_answer(name, asked, mode)

    def check_answer(self, name: str, asked: Request, mode: Mode) -> None:
        whole = whole_answer(asked)[: 1 if mode is Mode.EXPORT else None]
        drawn = self.instance.answers[name]
        assert drawn == (whole[: len(drawn)] if name in self.given_up else whole)
        assert (name in self.instance.ended) == (mode is not Mode.EXPORT and name not in self.given_up)
        assert self.instance.first_draws[name] == (name not in self.delivered and len(drawn) > 0)

    def step_bound(self) -> int:
        """The first to arrive is served at least once in as many steps as there are slots; then the next is first."""
        tokens = sum(r.prompt_tokens + 2 * r.sampling.max_tokens for r, _ in self.asked.values())
        return (tokens + 1) * self.instance.slots + 1

    def known(self) -> list[str]:
        return [name for name in self.asked if self.instance.scheduler.get(RequestId(name))]

    def phase(self, phase: Phase, mode: Mode | None = None) -> list[str]:
        found = [self.instance.get(name) for name in self.known()]
        return [s.request_id for s in found if s.phase is phase and mode in (None, s.mode)]


TestTraffic = SchedulerMachine.TestCase
TestTraffic.settings = settings(max_examples=150, stateful_step_count=40)

LENGTHS = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=2, max_size=8)


@given(LENGTHS, st.integers(15, 18), st.integers(2, 6), st.integers(1, 20))
def test_pools_that_are_too_small_delay_answers_but_do_not_change_them(
    traffic: list[tuple[int, int]], pages: int, slots: int, spare: int
) -> None:
    instance = FakeInstance(pages, slots, slots + spare)
    for i, (prompt, max_tokens) in enumerate(traffic):
        instance.add(f"r{i}", prompt, max_tokens)
    requests = [instance.get(name).request for name in instance.answers]
    work = sum(prompt + max_tokens for prompt, max_tokens in traffic)
    for _ in range(slots * work):
        instance.step()
    assert instance.empty()
    assert list(instance.answers.values()) == [whole_answer(request) for request in requests]
    assert instance.first_draws == dict.fromkeys(instance.answers, 1)


def test_random_traffic_does_preempt() -> None:
    """Guards the properties above: with these sizes they see preemptions, repeated ones included."""
    instance = FakeInstance(pages=15, slots=6, step_tokens=26)
    for i in range(8):
        instance.add(f"r{i}", 4 * i + 1, 30 - i)
    for _ in range(300):
        instance.step()
    assert instance.empty()
    assert len(instance.preemptions) >= 3
    assert max(instance.preemptions.values()) >= 2
