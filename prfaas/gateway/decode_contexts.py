"""How long the contexts are that decode instances offer. Knows nothing else of them."""

from bisect import bisect_left, insort

from prfaas.core.ids import InstanceId
from prfaas.policy.view import ClusterView


class DecodeContexts:
    """In order of length, so that no request has to walk all instances to learn which are too small for it."""

    def __init__(self) -> None:
        self._tokens: dict[InstanceId, int] = {}
        self._limited: list[tuple[int, InstanceId]] = []
        """The shortest first."""
        self._longest: tuple[int, int | None] = (-1, None)

    def put(self, instance_id: InstanceId, tokens: int) -> None:
        """0 tokens: no limit of its own."""
        self.drop(instance_id)
        self._tokens[instance_id] = tokens
        if tokens > 0:
            insort(self._limited, (tokens, instance_id))

    def drop(self, instance_id: InstanceId) -> None:
        """Once is enough, more does no harm."""
        if tokens := self._tokens.pop(instance_id, 0):
            del self._limited[bisect_left(self._limited, (tokens, instance_id))]

    def shorter_than(self, tokens: int) -> frozenset[InstanceId]:
        """Those that have a limit below `tokens`."""
        return frozenset(instance_id for _, instance_id in self._limited[: bisect_left(self._limited, (tokens, ""))])

    def longest(self, view: ClusterView, members: int) -> int | None:
        """Of the decode instances in `view`; None where there are none, or one has no limit.

        `members` is equal for views with the same instances, which need not be looked through again.
        """
        if self._longest[0] != members:
            offers = [self._tokens[i.instance_id] for part in view.parts.values() for i in part.decodes]
            self._longest = members, (max(offers) if offers and all(offers) else None)
        return self._longest[1]
