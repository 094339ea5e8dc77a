"""A made-up trace of conversations, in Mooncake's format and of the shape of its conversation trace.

Knows nobody's real requests.
"""

import json
from collections import deque
from itertools import count
from pathlib import Path
from random import Random

BLOCK_TOKENS = 512
RATE_REQ_S, BUCKET_S = 3.4, 3
CONTINUES = 0.36
"""Share of the requests that go on from one of the latest conversations."""
OPEN = 512
FIRST_MU, FIRST_SIGMA, MORE_MU, MORE_SIGMA = 8.55, 1.2, 6.5, 1.2
"""Of the logarithms of tokens: of a first prompt, and of what a turn adds."""
LEAST_TOKENS, MOST_TOKENS, MOST_OUTPUT = 64, 126_000, 2_000
OUTPUT_MU, OUTPUT_SIGMA = 5.6, 0.8


def write_conversations(path: Path, requests: int, seed: int) -> None:
    """Prompts have a mean of about 12,000 tokens, a third of which were there before; answers one of about 350."""
    rng, ids = Random(seed), count(1)
    latest: deque[tuple[int, tuple[int, ...]]] = deque(maxlen=OPEN)
    at_s = 0.0
    with path.open("w") as file:
        for _ in range(requests):
            at_s += rng.expovariate(RATE_REQ_S)
            if latest and rng.random() < CONTINUES:
                before, known = rng.choice(latest)
                tokens = before + _tokens(rng, MORE_MU, MORE_SIGMA)
            else:
                # All begin alike.
                tokens, known = _tokens(rng, FIRST_MU, FIRST_SIGMA), (0,)
            tokens = min(tokens, MOST_TOKENS)
            blocks = -(-tokens // BLOCK_TOKENS)
            names = (*known, *(next(ids) for _ in range(blocks - len(known))))[:blocks]
            latest.append((tokens, names[: tokens // BLOCK_TOKENS]))
            record = {
                "timestamp": int(at_s // BUCKET_S) * BUCKET_S * 1000,
                "input_length": tokens,
                "output_length": min(_tokens(rng, OUTPUT_MU, OUTPUT_SIGMA), MOST_OUTPUT),
                "hash_ids": names,
            }
            file.write(json.dumps(record) + "\n")


def _tokens(rng: Random, mu: float, sigma: float) -> int:
    return int(min(max(rng.lognormvariate(mu, sigma), LEAST_TOKENS), MOST_TOKENS))
