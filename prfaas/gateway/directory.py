"""What every instance has cached, as its KV events told, and how much of a prompt each could reuse.

Pure bookkeeping: knows no sockets, and hears of instances from whoever follows them.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from typing import assert_never

from prfaas.control.kv_events import (
    FULL_ATTENTION,
    GPU,
    MLA_ATTENTION,
    AllBlocksCleared,
    BlockName,
    BlockRemoved,
    BlockStored,
    KvEvent,
)
from prfaas.core.ids import InstanceId
from prfaas.gateway.holders import Holders, kv_bit, state_bit
from prfaas.gateway.prompt_blocks import PromptBlocks

MAX_ENTRIES = 1 << 20
"""Of one instance: 64M tokens in pages of 64."""

_KV_KINDS = (None, FULL_ATTENTION, MLA_ATTENTION)
"""None: servers that tell no kinds have one group only."""

_Names = dict[BlockName, None]
"""In the order in which they were told."""


@dataclass(frozen=True, slots=True)
class _Part:
    """Names of an instance's blocks of which it holds the KV, or a snapshot; `bit` says so among all holders."""

    bit: int
    names: _Names = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Holdings:
    """Of one life of one instance; `holder` is its number among all holders."""

    holder: int
    epoch: int
    fingerprint: str
    block_tokens: int
    kv: _Part
    states: _Part
    part_of_group: dict[int | None, _Part] = field(default_factory=dict)
    """Either of the two: only events about storing say what a group is."""


@dataclass(frozen=True, slots=True)
class Known:
    """How much is known of one instance."""

    blocks: int
    snapshots: int


class Directory:
    """Usable prefixes by instance. A prefix ends where KV blocks and, in models with states, a snapshot are held."""

    def __init__(self, *, has_states: bool, max_entries: int = MAX_ENTRIES) -> None:
        self._has_states = has_states
        self._max_entries = max_entries
        self._instances: dict[InstanceId, _Holdings] = {}
        self._holders = Holders()

    def admit(self, instance_id: InstanceId, epoch: int, fingerprint: str, block_tokens: int) -> None:
        """Begins with an instance that holds nothing yet; what an earlier life of it held is forgotten."""
        self.forget(instance_id)
        taken = {holdings.holder for holdings in self._instances.values()}
        holder = next(number for number in count() if number not in taken)
        kv, states = _Part(kv_bit(holder)), _Part(state_bit(holder))
        self._instances[instance_id] = _Holdings(holder, epoch, fingerprint, block_tokens, kv, states)

    def forget(self, instance_id: InstanceId) -> None:
        """Ends with an instance; once is enough, more does no harm."""
        if holdings := self._instances.pop(instance_id, None):
            self._clear(holdings)

    def apply(self, instance_id: InstanceId, epoch: int, events: Sequence[KvEvent]) -> int:
        """Takes events in; those of unknown instances, or of earlier lives, change nothing.

        Returns how many entries had to go, the oldest first, because there were too many.
        """
        holdings = self._instances.get(instance_id)
        if holdings is None or holdings.epoch != epoch:
            return 0
        for event in events:
            self._apply(holdings, event)
        return self._shorten(holdings.kv) + self._shorten(holdings.states)

    def cached_tokens(self, prompt: PromptBlocks) -> dict[InstanceId, int]:
        """Tokens that each instance need not compute; instances that hold nothing of the prompt are left out."""
        alike: defaultdict[tuple[str, int], dict[int, InstanceId]] = defaultdict(dict)
        for instance_id, holdings in self._instances.items():
            alike[holdings.fingerprint, holdings.block_tokens][holdings.holder] = instance_id
        cached: dict[InstanceId, int] = {}
        for (fingerprint, block_tokens), ids in alike.items():
            # The last token is always computed: its logits are what the answer begins with.
            chain = prompt.names(fingerprint, block_tokens)[: (prompt.num_tokens - 1) // block_tokens]
            blocks = self._holders.prefixes(chain, ids, snapshots=self._has_states)
            cached |= {ids[holder]: number * block_tokens for holder, number in blocks.items()}
        return cached

    def names_for(self, instance_id: InstanceId, prompt: PromptBlocks) -> Sequence[bytes]:
        """The prompt's blocks as an instance names them; none where nothing is known of it."""
        holdings = self._instances.get(instance_id)
        return prompt.names(holdings.fingerprint, holdings.block_tokens) if holdings else ()

    def known(self, instance_id: InstanceId) -> Known:
        """Counts; zeros for an instance that is not followed."""
        holdings = self._instances.get(instance_id)
        return Known(len(holdings.kv.names), len(holdings.states.names)) if holdings else Known(0, 0)

    @property
    def total(self) -> Known:
        """Of all instances together."""
        every = self._instances.values()
        return Known(sum(len(h.kv.names) for h in every), sum(len(h.states.names) for h in every))

    def _apply(self, holdings: _Holdings, event: KvEvent) -> None:
        match event:
            case AllBlocksCleared():
                self._clear(holdings)
            case BlockStored():
                part = holdings.kv if event.kv_cache_spec_kind in _KV_KINDS else holdings.states
                holdings.part_of_group[event.group_idx] = part
                # Slower tiers of other servers are not ours to count on.
                if event.medium in (None, GPU):
                    part.names.update(dict.fromkeys(event.block_hashes))
                    self._holders.add(event.block_hashes, part.bit)
            case BlockRemoved(names, medium, group):
                learned = holdings.part_of_group.get(group)
                if medium in (None, GPU):
                    for part in (holdings.kv, holdings.states) if learned is None else (learned,):
                        self._remove(part, names)
            case _:
                assert_never(event)

    def _clear(self, holdings: _Holdings) -> None:
        for part in (holdings.kv, holdings.states):
            self._holders.remove(part.names, part.bit)
            part.names.clear()

    def _remove(self, part: _Part, names: Sequence[BlockName]) -> None:
        self._holders.remove(names, part.bit)
        for name in names:
            part.names.pop(name, None)

    def _shorten(self, part: _Part) -> int:
        if len(part.names) <= self._max_entries:
            return 0
        # Some more at once: to find the first of a dict whose first ones went means to pass by all that went.
        excess = len(part.names) - self._max_entries + self._max_entries // 16
        self._remove(part, list(islice(part.names, excess)))
        return excess
