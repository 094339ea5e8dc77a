"""Causal attention of the newest tokens of one sequence, over tokens side by side or in pages."""

from torch import Tensor

from prfaas_kernels.gqa.causal import attend_causally
from prfaas_kernels.gqa.pages import read_tokens


def gqa_prefill(
    q: Tensor, k: Tensor, v: Tensor, scale: float, *, sinks: Tensor | None = None, window: int | None = None
) -> tuple[Tensor, Tensor]:
    """Causal attention of the last T of L tokens; scores and softmax are in fp32.

    `q` [T, H, Dk], `k` [L, G, Dk], `v` [L, G, Dv], any strides: query head h reads key head h // (H / G). With
    `window` w a query sees itself and the w - 1 tokens before it. `sinks` [H] are logits that join the softmax and
    carry no value. Returns [T, H, Dv] in the dtype of `q`, and the log of each softmax's total, [T, H] fp32.
    """
    unseen = 0 if window is None else max(0, k.shape[0] - q.shape[0] - window + 1)
    k, v = k[unseen:], v[unseen:]

    def read(start: int, stop: int) -> tuple[Tensor, Tensor]:
        return k[start:stop], v[start:stop]

    return attend_causally(q, read, k.shape[0], k.shape[1], v.shape[2], scale, sinks=sinks, window=window)


def gqa_prefill_pages(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    page_ids: Tensor,
    length: int,
    scale: float,
    *,
    sinks: Tensor | None = None,
    window: int | None = None,
) -> tuple[Tensor, Tensor]:
    """`gqa_prefill` of the last T of `length` tokens whose keys and values, those of the T included, are in pages.

    `k_cache` [pages, page_tokens, G, Dk], `v_cache` [pages, page_tokens, G, Dv], `page_ids` [P] of the sequence.
    Memory grows with T, not with `length`. Whatever lies beyond `length`, NaN included, has no effect.
    """
    unseen = 0 if window is None else max(0, length - q.shape[0] - window + 1)

    def read(start: int, stop: int) -> tuple[Tensor, Tensor]:
        seen = (page_ids, unseen + start, unseen + stop)
        return read_tokens(k_cache, *seen), read_tokens(v_cache, *seen)

    groups, value = k_cache.shape[2], v_cache.shape[3]
    return attend_causally(q, read, length - unseen, groups, value, scale, sinks=sinks, window=window)
