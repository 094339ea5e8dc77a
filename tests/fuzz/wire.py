"""Coverage-guided fuzzing of a connection's bytes with atheris, as `make fuzz` runs it.

The first byte of an input says whether headers and digests are made right first, without which a fuzzer never gets
past them. Any exception that is no typed error, and any memory beyond the limit, is a finding; atheris then writes the
input to the working directory.
"""

import argparse
import logging
import sys
import tempfile
from pathlib import Path

try:
    import atheris
except ImportError:
    sys.exit("make fuzz needs atheris, which is no dependency of prfaas: .venv/bin/pip install atheris")

with atheris.instrument_imports(include=["prfaas.wire", "prfaas.transport", "prfaas.core.errors"]):
    from prfaas.wire.receiving import Phase
    from tests.fuzz.connection import FedConnection
    from tests.fuzz.served_connection import ServedConnection
    from tests.fuzz.streams import SEEDS, repaired
    from tests.wire.small import EXPECTATION

MAX_INPUT_BYTES = 1 << 16
MAX_MEMORY_MB = 512


def one_input(data: bytes) -> None:
    """One connection."""
    stream = repaired(data[1:]) if data[:1] > b"\x7f" else data[1:]
    connection = FedConnection(EXPECTATION)
    connection.feed(stream)
    committed = connection.session.phase is Phase.COMMITTED
    assert connection.said["committed"] == committed
    assert not committed or connection.session.bytes_raw == EXPECTATION.shape.cache_bytes(EXPECTATION.prompt_tokens)
    served = ServedConnection(EXPECTATION)
    served.feed(stream)
    served.check_nothing_is_held()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    seconds = parser.parse_args().seconds
    logging.disable()
    with tempfile.TemporaryDirectory() as corpus:
        for name, stream in SEEDS.items():
            for first in (b"\x00", b"\xff"):
                Path(corpus, f"{name}-{first.hex()}").write_bytes(first + stream)
        limits = [
            f"-max_total_time={seconds}",
            f"-max_len={MAX_INPUT_BYTES}",
            f"-rss_limit_mb={MAX_MEMORY_MB}",
            "-timeout=5",
            "-print_final_stats=1",
        ]
        atheris.Setup([sys.argv[0], *limits, corpus], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
