"""Draws docs/images/page-layout.svg: what lies in the pages of Kimi Linear, to scale. Computes nothing of its own."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from benchmarks.page_layout import PAGE_TOKENS, PUBLISHED
from prfaas.cache.layout import PageLayout, lay_out
from prfaas.core.model_files import read_json
from prfaas.core.shape import ModelShape, model_shape

FILE = Path(__file__).parents[1] / "docs/images/page-layout.svg"
MODEL = "Kimi-Linear-48B-A3B"
WIDTH, HEIGHT, MARGIN = 960, 440, 28
KV, CACHED, STATE, TAP, SNAPSHOT, EMPTY = "#4c78a8", "#a9c4e0", "#d97c2b", "#a8550f", "#f2c894", "#ffffff"
INK, PALE, GROUND = "#222222", "#6b6b6b", "#fafaf7"
POOL = "KKCSSKFCCNSKFFCNNSKCFNKSSKCFFNCK"
"""Who has each page of the strip: K, S a request's KV and states; C, N cached KV and a snapshot; F nobody."""
COLOURS = {"K": KV, "C": CACHED, "S": STATE, "N": SNAPSHOT, "F": EMPTY}
LEGEND = (("K", "KV of a running request"), ("S", "its states"), ("C", "cached KV"), ("N", "snapshot"), ("F", "free"))
STRIP_Y, PAGE_Y, PAGE_HEIGHT = 92, 196, 84
Part = tuple[int, int, str, str]
"""First byte, byte after the last, colour, label."""


def draw() -> str:
    """The whole picture, with a background of its own so that it reads on any page."""
    shape = model_shape(read_json(PUBLISHED / f"{MODEL}.json"), "bfloat16")
    layout = lay_out(shape, PAGE_TOKENS)
    half = (WIDTH - 3 * MARGIN) // 2
    kv, states = POOL.index("K", len(POOL) // 5), POOL.index("S", len(POOL) // 2)
    body = [
        *_strip(layout),
        *_page(MARGIN, half, kv, layout, _kv_parts(shape, layout)),
        *_page(2 * MARGIN + half, half, states, layout, _state_parts(shape, layout, 0)),
        *_captions(MARGIN, _about_kv(shape)),
        *_captions(2 * MARGIN + half, _about_states(shape, layout)),
    ]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
        ' font-family="Verdana, DejaVu Sans, sans-serif" role="img" aria-label="Pages of one size in one pool">'
    )
    ground = f'<rect width="{WIDTH}" height="{HEIGHT}" rx="10" fill="{GROUND}"/>'
    return "\n".join([head, ground, *body, "</svg>\n"])


def _strip(layout: PageLayout) -> list[str]:
    title = f"One pool: pages of {layout.page_bytes:,} bytes, in any order ({MODEL}, blocks of {PAGE_TOKENS} tokens)"
    drawn = [_text(MARGIN, 40, title, 16, weight="bold")]
    drawn += [_box(x, STRIP_Y, _side(), _side(), COLOURS[kind]) for x, kind in zip(_xs(), POOL, strict=True)]
    x = MARGIN
    for kind, label in LEGEND:
        drawn += [_box(x, 60, 14, 14, COLOURS[kind]), _text(x + 20, 72, label, 12)]
        x += 50 + 8 * len(label)
    return drawn


def _page(left: int, width: int, number: int, layout: PageLayout, parts: Sequence[Part]) -> list[str]:
    """A page of the strip, enlarged; parts are to scale."""
    top = STRIP_Y + _side()
    first, last = _xs()[number], _xs()[number] + _side()
    drawn = [
        f'<path d="M{first} {top} L{left} {PAGE_Y} H{left + width} L{last} {top} Z" fill="#e4e4de"/>',
        _box(left, PAGE_Y, width, PAGE_HEIGHT, EMPTY),
    ]
    for begin, end, colour, label in parts:
        x, right = (left + width * byte / layout.page_bytes for byte in (begin, end))
        drawn.append(_box(x, PAGE_Y, right - x, PAGE_HEIGHT, colour))
        drawn += [
            _text((x + right) / 2, PAGE_Y + 34 + 15 * i, line, 11, anchor="middle", fill="#ffffff")
            for i, line in enumerate(label.split("\n"))
        ]
    return drawn


def _kv_parts(shape: ModelShape, layout: PageLayout) -> list[Part]:
    starts = [(layer, offset) for layer in shape.paged_layers for offset in layout.offsets[layer]]
    ends = [offset for _, offset in starts[1:]] + [layout.page_bytes]
    return [(begin, end, KV, f"layer\n{layer}") for (layer, begin), end in zip(starts, ends, strict=True)]


def _state_parts(shape: ModelShape, layout: PageLayout, page: int) -> list[Part]:
    """Of a request's state page of that number; what nothing covers stays empty."""
    parts = []
    for layer in shape.state_layers:
        for tensor, places in enumerate(layout.rows[layer]):
            size, wide = shape.layers[layer].row_bytes(tensor), tensor == 0
            parts += [
                (
                    at.offset,
                    at.offset + size,
                    STATE if wide else "#b65f1d",
                    f"layer {layer}\nhead {row}" if wide else "",
                )
                for row, at in enumerate(places)
                if at.page == page
            ]
    assert all(a[1] <= b[0] for a, b in pairwise(sorted(parts)))
    return parts


def _about_kv(shape: ModelShape) -> list[str]:
    tensor = shape.layers[shape.paged_layers[0]].tensors[0]
    dims = ", ".join(map(str, (PAGE_TOKENS, *tensor.dims)))
    return [
        "A page of KV",
        f"one block: {PAGE_TOKENS} tokens in all {len(shape.paged_layers)} full-attention layers,",
        f"layer after layer, each [{dims}] {tensor.dtype}.",
        "One block table serves all layers. A full block has a hash,",
        "and can be shared by all requests that begin with it.",
    ]


def _about_states(shape: ModelShape, layout: PageLayout) -> list[str]:
    linear = shape.layers[shape.state_layers[0]]
    state, conv = linear.tensors
    return [
        "A page of states",
        f"rows of one request's {len(shape.state_layers)} linear layers: heads, {list(state.dims[1:])} {state.dtype},",
        f"and, darker, taps of convolutions, [{conv.dims[1]}] {conv.dtype}.",
        "No row straddles pages; white is empty. All states of a request",
        f"take {layout.state_pages} pages, and so does each snapshot of them.",
    ]


def _captions(x: int, lines: Sequence[str]) -> list[str]:
    top = PAGE_Y + PAGE_HEIGHT + 34
    heading, *others = lines
    return [
        _text(x, top, heading, 14, weight="bold"),
        *(_text(x, top + 24 + 20 * i, line, 12, fill=PALE) for i, line in enumerate(others)),
    ]


def _side() -> int:
    return (WIDTH - 2 * MARGIN) // len(POOL) - 4


def _xs() -> list[int]:
    return [MARGIN + i * (_side() + 4) for i in range(len(POOL))]


def _box(x: float, y: float, width: float, height: float, fill: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{fill}" stroke="{INK}"'
        ' stroke-width="0.8"/>'
    )


def _text(
    x: float, y: float, text: str, size: int, *, anchor: str = "start", weight: str = "normal", fill: str = INK
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}"'
        f' fill="{fill}">{text}</text>'
    )


if __name__ == "__main__":
    FILE.write_text(draw(), encoding="utf-8")
