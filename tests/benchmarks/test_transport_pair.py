"""Rounds of small prompts between real processes; a pair itself compares both ends' memory after its first."""

from pathlib import Path

import pytest

from benchmarks.data_plane import certificates
from benchmarks.data_plane.pair import Pair
from benchmarks.data_plane.setup import Peer, Setup

TOKENS = 1024


@pytest.mark.parametrize("peer", ["raw", "mtls"])
def test_what_arrives_is_what_was_sent(peer: Peer, tmp_path: Path) -> None:
    certificates.make(tmp_path)
    setup = Setup(peer, "cubic", streams=2, tokens=TOKENS)
    pair = Pair(setup, str(tmp_path))
    try:
        for prompts in (1, 2):
            done = pair.round(prompts)
            assert done.num_bytes == prompts * setup.prompt_bytes
            assert done.sent.bytes_again == 0
            assert min(done.gbit_s, done.cpu_s_gb) > 0
    finally:
        pair.close()


def test_an_end_that_cannot_start_ends_the_pair(tmp_path: Path) -> None:
    with pytest.raises((EOFError, ConnectionError)):
        Pair(Setup("mtls", "cubic", streams=1, tokens=TOKENS), str(tmp_path / "without certificates"))
