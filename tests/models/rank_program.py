"""`python -m tests.models.rank_program`: one rank of a group that runs a prompt in chunks on a shared cache.

Reads one JSON line, writes rank 0's logits and its greedy continuation beside the checkpoint.
"""

import json
import os
import sys
from pathlib import Path

import torch

from prfaas.cache.layout import lay_out
from prfaas.engine.arena import Arena
from prfaas.models.cache_tensors import map_cache
from prfaas.models.distributed import Distributed, join_group, leave_group
from prfaas.models.loader import load_model
from prfaas.models.shard import local_cache
from tests.models.rig import PAGE_TOKENS, Part, Rig, forward, in_chunks

CHUNK = 17
STEPS = 6


def main() -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    told = json.loads(sys.stdin.readline())
    ranks = Distributed(told["rank"], told["size"])
    join_group(ranks, Path(told["meeting"]))
    for job in told["jobs"]:
        model = load_model(Path(job["directory"]), "float32", ranks)
        memory = Arena(job["fd"]).memory
        cache = map_cache(model.shape, lay_out(model.shape, PAGE_TOKENS), memory)
        pages, table, states = torch.frombuffer(memory, dtype=torch.uint8), job["table"], job["state_pages"]
        rig = Rig(model, pages, local_cache(model.spec, cache, ranks), torch.tensor(table), torch.tensor(states))
        logits = in_chunks(rig, job["ids"], CHUNK)
        tokens = []
        following = logits
        for step in range(STEPS):
            tokens.append(int(following[-1].argmax()))
            following = forward(rig, [Part(0, [tokens[-1]], len(job["ids"]) + step)], num_decodes=1)[0]
        if ranks.rank == 0:
            torch.save((logits, tokens), Path(job["directory"]) / "out.pt")
    leave_group()


if __name__ == "__main__":
    main()
    os._exit(0)  # what gloo's threads do while the interpreter ends is not what is tested
