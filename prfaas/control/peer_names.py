"""Which names in a peer's certificate make it one of the fleet's. Knows no certificates and no sockets."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True, slots=True)
class PeerNames:
    """What `security.fleet_name` and `security.allowed_names` ask of a certificate."""

    fleet_name: str
    allowed: tuple[str, ...]

    def refusal(self, names: Iterable[str]) -> str | None:
        """Why a certificate with these DNS names is refused, and what to change; None if it is not."""
        carried = [name.lower() for name in names]
        if self.fleet_name.lower() not in carried:
            return (
                f"its certificate, for {_listed(carried)}, does not carry the fleet's name {self.fleet_name}; give it "
                "one of this fleet, or set the same security.fleet_name in all fleet files"
            )
        own = [name for name in carried if name != self.fleet_name.lower()]
        if any(fnmatchcase(name, pattern.lower()) for name in own for pattern in self.allowed):
            return None
        return (
            f"its certificate, for {_listed(own)}, matches none of security.allowed_names ({_listed(self.allowed)}); "
            "add a pattern that does if it is to be trusted"
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "no other DNS name"
