"""Two ranks in two processes give the logits of one, and leave the same cache: what travels does not know of ranks."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from prfaas.cache.layout import PageLayout, lay_out
from prfaas.core.errors import UnsupportedModelError
from prfaas.engine.arena import Arena
from prfaas.engine.memory import CacheMemory
from prfaas.models.cache_tensors import map_cache
from prfaas.models.distributed import Distributed
from prfaas.models.loader import LoadedModel, load_model
from prfaas.models.shard import unit_range
from tests.models.rank_program import CHUNK, STEPS
from tests.models.rig import PAGE_TOKENS, Part, Rig, forward, in_chunks, logit_error
from tests.models.tiny import write_tiny

RANKS = 2
TOKENS = 70
PAGES = list(range(7, 1, -1))  # scattered enough: backwards
NOBODYS = 2
EVEN: dict[str, dict[str, Any]] = {
    "kimi_linear": {"num_attention_heads": 4, "num_key_value_heads": 4},
    "qwen3": {"num_key_value_heads": 1, "tie_word_embeddings": True},  # one key head, held by both ranks
    "qwen3_moe": {"num_key_value_heads": 2, "num_attention_heads": 4},
    "qwen3_next": {},
    "qwen3_5_text": {},
    "mimo_v2_flash": {},
    "minimax": {"num_local_experts": 6},
    "minimax_m2": {"num_local_experts": 6},
    "ring": {"group_norm_size": 2},
}
"""Every family, with sizes that two ranks can share."""


@dataclass(frozen=True)
class Job:
    """One family's checkpoint, the cache that the ranks share, and what it should come to."""

    family: str
    directory: Path
    model: LoadedModel
    arena: Arena
    ids: list[int]

    @property
    def layout(self) -> PageLayout:
        return lay_out(self.model.shape, PAGE_TOKENS)

    @property
    def state_pages(self) -> list[int]:
        first = len(PAGES) + NOBODYS
        return list(range(first, first + self.layout.state_pages))

    def message(self) -> dict[str, Any]:
        return {
            "directory": str(self.directory),
            "fd": self.arena.fd,
            "table": [PAGES],
            "state_pages": [self.state_pages],
            "ids": self.ids,
        }


def prepare(family: str, changes: dict[str, Any], directory: Path) -> Job:
    with torch.no_grad():
        write_tiny(family, directory, **changes)
    model = load_model(directory, "float32")
    layout = lay_out(model.shape, PAGE_TOKENS)
    num_pages = len(PAGES) + NOBODYS + layout.state_pages
    ids = torch.randint(3, 150, (TOKENS,), generator=torch.Generator().manual_seed(5)).tolist()
    return Job(family, directory, model, Arena.create(layout.num_bytes(num_pages)), ids)


def run_ranks(jobs: list[Job], directory: Path) -> None:
    """All jobs, one after another, on two processes."""
    told = {"size": RANKS, "meeting": str(directory / "meeting"), "jobs": [job.message() for job in jobs]}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.models.rank_program"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[job.arena.fd for job in jobs],
            text=True,
        )
        for _ in range(RANKS)
    ]
    for rank, process in enumerate(processes):
        assert process.stdin is not None
        process.stdin.write(json.dumps({**told, "rank": rank}) + "\n")
        process.stdin.flush()
    try:
        said = [process.communicate(timeout=100)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * RANKS, said


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Job]:
    directory = tmp_path_factory.mktemp("ranks")
    jobs = [prepare(family, changes, directory / family) for family, changes in EVEN.items()]
    run_ranks(jobs, directory)
    return {job.family: job for job in jobs}


def alone(job: Job) -> tuple[Tensor, list[int], memoryview]:
    """Logits, greedy tokens and cache of the same prompt in one process."""
    memory = memoryview(bytearray(job.arena.memory.nbytes))
    cache = map_cache(job.model.shape, job.layout, memory)
    pages = torch.frombuffer(memory, dtype=torch.uint8)
    rig = Rig(job.model, pages, cache, torch.tensor([PAGES]), torch.tensor([job.state_pages]))
    logits = in_chunks(rig, job.ids, CHUNK)
    tokens, following = [], logits
    for step in range(STEPS):
        tokens.append(int(following[-1].argmax()))
        following = forward(rig, [Part(0, [tokens[-1]], len(job.ids) + step)], num_decodes=1)[0]
    return logits, tokens, memory


@pytest.mark.parametrize("family", EVEN)
def test_two_ranks_compute_what_one_does(done: dict[str, Job], family: str) -> None:
    job = done[family]
    logits, tokens, memory = alone(job)
    theirs, their_tokens = torch.load(job.directory / "out.pt")
    assert logit_error(theirs, logits) < 1e-5
    assert their_tokens == tokens
    for layer, cached in enumerate(job.model.shape.layers):
        for tensor in range(len(cached.tensors)):
            ours, shared = (entries(job, where, layer, tensor) for where in (memory, job.arena.memory))
            torch.testing.assert_close(shared, ours, rtol=1e-4, atol=1e-4 * float(ours.abs().max()))


def entries(job: Job, memory: memoryview, layer: int, tensor: int) -> Tensor:
    """What would travel of one tensor of the prompt and its answer."""
    cached = CacheMemory(job.model.shape, job.layout, memory)
    rows = job.model.shape.layers[layer].num_rows(tensor, TOKENS + STEPS)
    spans = cached.spans(layer, tensor, 0, rows, PAGES, job.state_pages)
    return torch.frombuffer(bytearray().join(spans), dtype=torch.float32)


def test_what_cannot_be_shared_out_is_refused_by_number(tmp_path: Path) -> None:
    write_tiny("kimi_linear", tmp_path)  # three heads of latent attention
    with pytest.raises(UnsupportedModelError, match=r"3 heads.* 2 ranks"):
        load_model(tmp_path, "float32", Distributed(1, RANKS))


@pytest.mark.parametrize(("units", "size"), [(8, 2), (6, 3), (2, 4), (1, 8), (160, 2)])
def test_units_are_shared_out_whole(units: int, size: int) -> None:
    ranges = [unit_range(units, Distributed(rank, size)) for rank in range(size)]
    held = [unit for first, stop in ranges for unit in range(first, stop)]
    assert set(held) == set(range(units))
    assert len({held.count(unit) for unit in held}) == 1
