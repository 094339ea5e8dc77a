"""Lines of a trace file, numbered, and the errors that name them. Knows no format."""

from collections.abc import Iterator
from pathlib import Path

from prfaas.core.errors import ConfigError


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Every line with its number from 1, one at a time, without its end.

    Raises ConfigError for a file that cannot be read, one without any line, and an empty line before others.
    """
    last, hole = 0, 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                text = line.rstrip(b"\r\n")
                if not text.strip():
                    hole = hole or number
                    continue
                if hole:
                    raise trace_fault(path, hole, "an empty line between others; remove it")
                last = number
                yield number, text
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist; give an existing trace file") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}; give a trace file") from error
    if not last:
        raise ConfigError(f"{path} is empty; give a trace with at least one request")


def trace_fault(path: Path, line: int, message: str) -> ConfigError:
    return ConfigError(f"{path}:{line}: {message}")
