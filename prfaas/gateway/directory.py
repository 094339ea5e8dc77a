"""What every instance has cached, as its KV events told, and how much of a prompt each could reuse.

Pure bookkeeping: knows no sockets, and hears of instances from whoever follows them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import filterfalse, islice
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
from prfaas.gateway.prompt_blocks import PromptBlocks

MAX_ENTRIES = 1 << 20
"""Of one instance: 64M tokens in pages of 64."""

_KV_KINDS = (None, FULL_ATTENTION, MLA_ATTENTION)
"""None: servers that tell no kinds have one group only."""

_Names = dict[BlockName, None]
"""In the order in which they were told."""


@dataclass(slots=True)
class _Holdings:
    """Of one life of one instance."""

    epoch: int
    fingerprint: str
    block_tokens: int
    kv: _Names = field(default_factory=dict)
    states: _Names = field(default_factory=dict)
    part_of_group: dict[int | None, _Names] = field(default_factory=dict)
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

    def admit(self, instance_id: InstanceId, epoch: int, fingerprint: str, block_tokens: int) -> None:
        """Begins with an instance that holds nothing yet; what an earlier life of it held is forgotten."""
        self._instances[instance_id] = _Holdings(epoch, fingerprint, block_tokens)

    def forget(self, instance_id: InstanceId) -> None:
        """Ends with an instance; once is enough, more does no harm."""
        self._instances.pop(instance_id, None)

    def apply(self, instance_id: InstanceId, epoch: int, events: Sequence[KvEvent]) -> int:
        """Takes events in; those of unknown instances, or of earlier lives, change nothing.

        Returns how many entries had to go, the oldest first, because there were too many.
        """
        holdings = self._instances.get(instance_id)
        if holdings is None or holdings.epoch != epoch:
            return 0
        for event in events:
            _apply(holdings, event)
        return sum(_shorten(names, self._max_entries) for names in (holdings.kv, holdings.states))

    def cached_tokens(self, prompt: PromptBlocks) -> dict[InstanceId, int]:
        """Tokens that each instance need not compute; instances that hold nothing of the prompt are left out."""
        found = {name: self._prefix_tokens(holdings, prompt) for name, holdings in self._instances.items()}
        return {name: tokens for name, tokens in found.items() if tokens}

    def names_for(self, instance_id: InstanceId, prompt: PromptBlocks) -> Sequence[bytes]:
        """The prompt's blocks as an instance names them; none where nothing is known of it."""
        holdings = self._instances.get(instance_id)
        return prompt.names(holdings.fingerprint, holdings.block_tokens) if holdings else ()

    def known(self, instance_id: InstanceId) -> Known:
        """Counts; zeros for an instance that is not followed."""
        holdings = self._instances.get(instance_id)
        return Known(len(holdings.kv), len(holdings.states)) if holdings else Known(0, 0)

    @property
    def total(self) -> Known:
        """Of all instances together."""
        every = self._instances.values()
        return Known(sum(len(h.kv) for h in every), sum(len(h.states) for h in every))

    def _prefix_tokens(self, holdings: _Holdings, prompt: PromptBlocks) -> int:
        names = prompt.names(holdings.fingerprint, holdings.block_tokens)
        # The last token is always computed: its logits are what the answer begins with.
        whole = names[: (prompt.num_tokens - 1) // holdings.block_tokens]
        # No loops of Python's own: a long prompt has thousands of blocks, and a fleet many instances.
        missing = next(filterfalse(holdings.kv.__contains__, whole), None)
        usable = whole if missing is None else whole[: whole.index(missing)]
        if self._has_states:
            end = next(filter(holdings.states.__contains__, reversed(usable)), None)
            usable = () if end is None else usable[: usable.index(end) + 1]
        return len(usable) * holdings.block_tokens


def _apply(holdings: _Holdings, event: KvEvent) -> None:
    match event:
        case AllBlocksCleared():
            holdings.kv.clear()
            holdings.states.clear()
        case BlockStored():
            part = holdings.kv if event.kv_cache_spec_kind in _KV_KINDS else holdings.states
            holdings.part_of_group[event.group_idx] = part
            # Slower tiers of other servers are not ours to count on.
            if event.medium in (None, GPU):
                part.update(dict.fromkeys(event.block_hashes))
        case BlockRemoved(names, medium, group):
            learned = holdings.part_of_group.get(group)
            if medium in (None, GPU):
                for part in (holdings.kv, holdings.states) if learned is None else (learned,):
                    _remove(part, names)
        case _:
            assert_never(event)


def _remove(part: _Names, names: Iterable[BlockName]) -> None:
    for name in names:
        part.pop(name, None)


def _shorten(names: _Names, limit: int) -> int:
    if len(names) <= limit:
        return 0
    # Some more at once: to find the first of a dict whose first ones went means to pass by all that went.
    excess = len(names) - limit + limit // 16
    _remove(names, list(islice(names, excess)))
    return excess
