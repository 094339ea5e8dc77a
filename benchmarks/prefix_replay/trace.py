"""Prompts of a Mooncake trace as names of blocks. Knows of their text only which parts are equal."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xxhash import xxh3_128_digest

from prfaas.core.ids import BlockHash
from prfaas.planner.simulate.arrival import ID_TOKENS
from prfaas.planner.simulate.workloads.mooncake import read_mooncake


@dataclass(frozen=True, slots=True)
class TracedPrompt:
    """`ids`: equal ids at equal places, after equal ids, mean equal tokens; the last may stand for fewer than 512."""

    tokens: int
    ids: tuple[int, ...]

    @property
    def whole_tokens(self) -> int:
        """Those that whole ids stand for. A prompt's continuation has another id where this one's last was partial,
        though its tokens begin alike: of what lies after this point the trace cannot say that it comes again."""
        return self.tokens // ID_TOKENS * ID_TOKENS

    def block_hashes(self, block_tokens: int, num_tokens: int) -> list[BlockHash]:
        """Names of the whole blocks of the first `num_tokens` tokens, chained over ids and places within them."""
        per_id = ID_TOKENS // block_tokens
        hashes, name = [], BlockHash(b"")
        for block in range(num_tokens // block_tokens):
            traced, place = divmod(block, per_id)
            name = BlockHash(xxh3_128_digest(name + b"%d:%d" % (self.ids[traced], place)))
            hashes.append(name)
        return hashes


def read_trace(path: Path) -> list[TracedPrompt]:
    """In order of arrival. Raises ConfigError if it is no trace of this kind."""
    return [TracedPrompt(record.input_length, record.hash_ids) for record in read_mooncake(path)]


def total_tokens(trace: Sequence[TracedPrompt]) -> int:
    return sum(prompt.tokens for prompt in trace)


def distinct_ids(trace: Sequence[TracedPrompt]) -> int:
    return len({traced for prompt in trace for traced in prompt.ids})
