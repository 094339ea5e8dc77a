"""What is wrong with a configuration file, and where."""

from typing import NamedTuple

Path = tuple[str | int, ...]


class Fault(NamedTuple):
    """One thing wrong: where in the file (keys and indices), and what to change."""

    path: Path
    message: str
