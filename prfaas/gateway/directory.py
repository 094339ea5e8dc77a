"""What every instance has cached, as its KV events told, and how much of a prompt each could reuse.

Pure bookkeeping: knows no sockets and no time, and hears of instances from whoever follows them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import assert_never

from prfaas.control.kv_events import GPU, AllBlocksCleared, BlockName, BlockRemoved, BlockStored, KvEvent
from prfaas.core.ids import InstanceId
from prfaas.gateway.foreign_names import Named
from prfaas.gateway.holders import Holders
from prfaas.gateway.holdings import Holdings, Part
from prfaas.gateway.prompt_blocks import PromptBlocks

MAX_ENTRIES = 1 << 20
"""Of one instance: 64M tokens in pages of 64."""
MAX_TOTAL_ENTRIES = 1 << 23
"""Of all together: one or two GB (`benchmarks/directory.py`)."""


@dataclass(frozen=True, slots=True)
class Known:
    """How much is known of one instance, or of several."""

    blocks: int
    snapshots: int


@dataclass(slots=True)
class Applied:
    """What could not be kept of some events."""

    dropped: int = 0
    """Entries that had to go, the oldest first, because there were too many."""
    unnamed: int = 0
    """Blocks of another engine that followed none that we know, so that we have no name for them."""
    private: int = 0
    """Blocks of another engine that are not made of tokens alone."""

    def note(self, named: Named) -> None:
        self.unnamed += named.unnamed
        self.private += named.private


class Directory:
    """Usable prefixes by instance. A prefix ends where KV blocks and, in models with states, a snapshot are held."""

    def __init__(
        self, *, has_states: bool, max_entries: int = MAX_ENTRIES, max_total_entries: int = MAX_TOTAL_ENTRIES
    ) -> None:
        self._has_states = has_states
        self._max_entries = max_entries
        self._max_total_entries = max_total_entries
        self._entries = 0
        self._instances: dict[InstanceId, Holdings] = {}
        self._ids: dict[int, InstanceId] = {}
        """By holder."""
        self._alike: dict[tuple[str, int], int] = {}
        """KV bits of all who name a prompt's blocks alike: those with one model and one size of blocks."""
        self._holders = Holders()

    def admit(self, instance_id: InstanceId, epoch: int, fingerprint: str, block_tokens: int) -> None:
        """Begins with an instance that holds nothing yet; what an earlier life of it held is forgotten."""
        self.forget(instance_id)
        holder = next(number for number in count() if number not in self._ids)
        holdings = Holdings(holder, epoch, fingerprint, block_tokens)
        self._instances[instance_id], self._ids[holder] = holdings, instance_id
        self._alike[fingerprint, block_tokens] = self._alike.get((fingerprint, block_tokens), 0) | holdings.kv.bit

    def forget(self, instance_id: InstanceId) -> None:
        """Ends with an instance; once is enough, more does no harm."""
        holdings = self._instances.pop(instance_id, None)
        if holdings is None:
            return
        self._entries -= holdings.entries
        self._clear(holdings)
        del self._ids[holdings.holder]
        alike = holdings.fingerprint, holdings.block_tokens
        self._alike[alike] &= ~holdings.kv.bit
        if not self._alike[alike]:
            del self._alike[alike]

    def apply(self, instance_id: InstanceId, epoch: int, events: Sequence[KvEvent]) -> Applied:
        """Takes events in, in their order; those of unknown instances, or of earlier lives, change nothing."""
        applied = Applied()
        holdings = self._instances.get(instance_id)
        if holdings is None or holdings.epoch != epoch:
            return applied
        before = holdings.entries
        for event in events:
            self._apply(holdings, event, applied)
        for part, names in holdings.excess(self._max_entries):
            applied.dropped += self._remove(part, names)
        self._entries += holdings.entries - before
        while self._entries > self._max_total_entries:
            applied.dropped += self._shorten_fullest()
        return applied

    def cached_tokens(self, prompt: PromptBlocks) -> dict[InstanceId, int]:
        """Tokens that each instance need not compute; instances that hold nothing of the prompt are left out."""
        cached: dict[InstanceId, int] = {}
        ids = self._ids
        for (fingerprint, block_tokens), holders in self._alike.items():
            # The last token is always computed: its logits are what the answer begins with.
            chain = prompt.names(fingerprint, block_tokens)[: (prompt.num_tokens - 1) // block_tokens]
            for holder, blocks in self._holders.prefixes(chain, holders, snapshots=self._has_states):
                cached[ids[holder]] = blocks * block_tokens
        return cached

    def names_for(self, instance_id: InstanceId, prompt: PromptBlocks) -> Sequence[bytes]:
        """The prompt's blocks as the fleet names them, in an instance's size; none where nothing is known of it."""
        holdings = self._instances.get(instance_id)
        return prompt.names(holdings.fingerprint, holdings.block_tokens) if holdings else ()

    def known(self, *instance_ids: InstanceId) -> Known:
        """Counts, together; zeros for instances that are not followed."""
        return _known(self._instances[one] for one in instance_ids if one in self._instances)

    @property
    def total(self) -> Known:
        """Of all instances together."""
        return _known(self._instances.values())

    def _apply(self, holdings: Holdings, event: KvEvent, applied: Applied) -> None:
        match event:
            case AllBlocksCleared():
                self._clear(holdings)
            case BlockStored():
                self._store(holdings, event, applied)
            case BlockRemoved(names, medium, group):
                if medium in (None, GPU):
                    named = holdings.foreign.ours(names) if holdings.names_otherwise(names) else names
                    for part in holdings.parts_of_group(group):
                        self._remove(part, named)
            case _:
                assert_never(event)

    def _store(self, holdings: Holdings, event: BlockStored, applied: Applied) -> None:
        part = holdings.part_of(event)
        # Slower tiers of other servers are not ours to count on.
        if event.medium not in (None, GPU):
            return
        names: Sequence[BlockName] = event.block_hashes
        if holdings.names_otherwise(event.block_hashes):
            named = holdings.foreign.learn(event)
            applied.note(named)
            names = named.names
        part.names.update(dict.fromkeys(names))
        self._holders.add(names, part.bit)

    def _clear(self, holdings: Holdings) -> None:
        for part in holdings.parts:
            self._holders.remove(part.names, part.bit)
            part.names.clear()

    def _remove(self, part: Part, names: Sequence[BlockName]) -> int:
        self._holders.remove(names, part.bit)
        for name in names:
            part.names.pop(name, None)
        return len(names)

    def _shorten_fullest(self) -> int:
        fullest = max(self._instances.values(), key=lambda holdings: holdings.entries)
        before = fullest.entries
        dropped = sum(self._remove(part, names) for part, names in fullest.sixteenth())
        self._entries += fullest.entries - before
        return dropped


def _known(every: Iterable[Holdings]) -> Known:
    counts = [(len(holdings.kv.names), len(holdings.states.names)) for holdings in every]
    return Known(sum(blocks for blocks, _ in counts), sum(snapshots for _, snapshots in counts))
