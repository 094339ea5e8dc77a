"""Traces as names of blocks."""

import json
from pathlib import Path

import pytest

from benchmarks.prefix_replay.trace import TracedPrompt, distinct_ids, read_trace, total_tokens
from prfaas.core.errors import ConfigError


def write(path: Path, *prompts: tuple[int, int, list[int]]) -> Path:
    keys = ("timestamp", "input_length", "hash_ids")
    records = [dict(zip(keys, prompt, strict=True)) | {"output_length": 1} for prompt in prompts]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_prompts_come_in_order_of_time(tmp_path: Path) -> None:
    trace = read_trace(write(tmp_path / "trace.jsonl", (3, 512, [1]), (9, 600, [1, 2])))
    assert trace == [TracedPrompt(512, (1,)), TracedPrompt(600, (1, 2))]
    assert (total_tokens(trace), distinct_ids(trace)) == (1112, 2)


@pytest.mark.parametrize("text", ["no json", '{"timestamp": 0}\n', "[1, 2]\n"])
def test_what_is_no_trace_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"trace\.jsonl"):
        read_trace(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        read_trace(tmp_path / "missing.jsonl")


def test_blocks_are_equal_where_all_ids_so_far_are() -> None:
    one, other = TracedPrompt(1536, (1, 2, 3)), TracedPrompt(1536, (1, 9, 3))
    ours, theirs = one.block_hashes(64, 1536), other.block_hashes(64, 1536)
    assert len(ours) == len(set(ours)) == 24
    assert ours[:8] == theirs[:8]
    assert not set(ours[8:]) & set(theirs[8:]), "the third id is the same, what comes before it is not"


def test_only_whole_blocks_have_names() -> None:
    prompt = TracedPrompt(700, (1, 2))
    assert len(prompt.block_hashes(64, prompt.tokens)) == 10
    assert prompt.whole_tokens == 512
    assert prompt.block_hashes(64, prompt.whole_tokens) == prompt.block_hashes(64, prompt.tokens)[:8]
