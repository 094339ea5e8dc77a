"""What one instance has cached in one life of it, and in which order that was told. Knows no other instances."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from prfaas.control.kv_decode import is_own
from prfaas.control.kv_events import FULL_ATTENTION, MLA_ATTENTION, BlockName, BlockStored
from prfaas.gateway.foreign_names import ForeignNames
from prfaas.gateway.holders import kv_bit, state_bit

MAX_GROUPS = 256
"""Of layers that an engine caches alike; what is removed from one beyond these is taken for removed from all."""
_KV_KINDS = (None, FULL_ATTENTION, MLA_ATTENTION)
"""None: servers that tell no kinds have one group only."""


@dataclass(frozen=True, slots=True)
class Part:
    """Names of an instance's blocks of which it holds the KV, or a snapshot; `bit` says so among all holders."""

    bit: int
    names: dict[BlockName, None] = field(default_factory=dict)
    """In the order in which they were told."""


class Holdings:
    """`holder` is the instance's number among all holders."""

    def __init__(self, holder: int, epoch: int, fingerprint: str, block_tokens: int) -> None:
        self.holder = holder
        self.epoch = epoch
        self.fingerprint = fingerprint
        self.block_tokens = block_tokens
        self.kv = Part(kv_bit(holder))
        self.states = Part(state_bit(holder))
        self.foreign = ForeignNames(fingerprint, block_tokens)
        """Empty where the engine's names are ours."""
        self._part_of_group: dict[int | None, Part] = {}
        self._is_foreign: bool | None = None

    @property
    def entries(self) -> int:
        """What it takes room for."""
        return len(self.kv.names) + len(self.states.names) + len(self.foreign)

    @property
    def parts(self) -> tuple[Part, Part]:
        return self.kv, self.states

    def names_otherwise(self, names: tuple[BlockName, ...]) -> bool:
        """Whether the engine's names are its own. The first ones that are told decide, for all that is told later."""
        if self._is_foreign is None and names:
            self._is_foreign = not is_own(names)
        return bool(self._is_foreign)

    def part_of(self, event: BlockStored) -> Part:
        """Only such events say what a group is; it is remembered for those about removal."""
        part = self.kv if event.kv_cache_spec_kind in _KV_KINDS else self.states
        if len(self._part_of_group) < MAX_GROUPS or event.group_idx in self._part_of_group:
            self._part_of_group[event.group_idx] = part
        return part

    def parts_of_group(self, group: int | None) -> Iterable[Part]:
        """Either, or both where nothing was told of the group."""
        learned = self._part_of_group.get(group)
        return self.parts if learned is None else (learned,)

    def excess(self, limit: int) -> Iterator[tuple[Part, list[BlockName]]]:
        """What has to go so that no part, and no list of foreign names, is longer than `limit`: the oldest."""
        for part in self.parts:
            if len(part.names) > limit:
                yield part, self._oldest(part, limit)
        if len(self.foreign) > limit:
            yield from self._forgotten(_more_than(len(self.foreign), limit))

    def sixteenth(self) -> Iterator[tuple[Part, list[BlockName]]]:
        """The oldest of whatever it has most of: a part of it to go, where there is too much in all."""
        kv, states, foreign = len(self.kv.names), len(self.states.names), len(self.foreign)
        most = max(kv, states, foreign)
        if most == foreign:
            yield from self._forgotten(most // 16 + 1)
        else:
            part = self.kv if most == kv else self.states
            yield part, list(islice(part.names, most // 16 + 1))

    def _oldest(self, part: Part, limit: int) -> list[BlockName]:
        return list(islice(part.names, _more_than(len(part.names), limit)))

    def _forgotten(self, count: int) -> Iterator[tuple[Part, list[BlockName]]]:
        """What is held under names that we cannot keep could never be taken back."""
        held = self.foreign.drop(count, lambda name: name in self.kv.names or name in self.states.names)
        for part in self.parts:
            yield part, [name for name in held if name in part.names]


def _more_than(length: int, limit: int) -> int:
    # Some more at once: to find the first of a dict whose first ones went means to pass by all that went.
    return length - limit + limit // 16
