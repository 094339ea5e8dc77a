"""How many programs share the keys of one sequence; knows sizes, never a length."""

from dataclasses import dataclass

_MOST_TOKENS = 4096  # of a split: one long sequence among short ones is not waited for
_MOST_BYTES = 512 << 20  # of partial results: one sequence of 1M tokens among thousands must not cost hundreds of GB
_FEW_TOKENS, _MANY_TOKENS = 256, 1024  # a partial result costs as much as some tens of tokens


@dataclass(frozen=True, slots=True)
class Splits:
    """Every sequence is cut into `count` equal spans of tokens; shorter ones into fewer of `least_tokens`."""

    count: int
    least_tokens: int


def choose_splits(programs: int, capacity_tokens: int, slots: int, split_bytes: int) -> Splits:
    """For `programs` of one split each, of which a GPU runs `slots` at once; no sequence passes `capacity_tokens`.

    They fill the GPU once, since equal spans end together, or more often where spans would be too long, as long as
    there is memory: `split_bytes` is of the results of one split of every sequence. Where that fills it already, short
    sequences are not cut finely.
    """
    fill = max(1, slots // max(1, programs))
    least = _FEW_TOKENS if fill > 1 else _MANY_TOKENS
    count = max(fill, min(-(-capacity_tokens // _MOST_TOKENS), _MOST_BYTES // max(1, split_bytes)))
    return Splits(max(1, min(count, -(-capacity_tokens // least))), least)
