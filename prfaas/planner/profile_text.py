"""A profile file as the text that a person would write. Reads nothing and writes nothing."""

import textwrap
from collections.abc import Iterator

import yaml

from prfaas.config.profile_file import ProfileFile

_WIDTH = 118
_WHOLE = 1e15
"""Below it a float without a fraction is written out as the integer that it is."""


def profile_text(file: ProfileFile) -> str:
    """YAML that reads back as an equal ProfileFile."""
    return "\n".join(_lines(file)) + "\n"


def _lines(file: ProfileFile) -> Iterator[str]:
    yield "source: >-"
    yield from textwrap.wrap(file.source, _WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    model, hardware, prefill, decode = file.model, file.hardware, file.prefill, file.decode
    yield "model:"
    yield f"  name: {_text(model.name)}"
    yield f"  kv_bytes_per_token: {_number(model.kv_bytes_per_token)}"
    yield f"  state_bytes: {_number(model.state_bytes)}"
    yield "hardware:"
    yield f"  name: {_text(hardware.name)}"
    yield f"  gpus: {hardware.gpus}"
    yield f"  usd_per_gpu_hour: {_number(hardware.usd_per_gpu_hour)}"
    yield f"  cache_gib: {_number(hardware.cache_gib)}"
    yield "prefill:"
    yield f"  overhead_s: {_number(prefill.overhead_s)}"
    yield f"  per_token_s: {_number(prefill.per_token_s)}"
    yield f"  per_token2_s: {_number(prefill.per_token2_s)}"
    if prefill.points:
        yield "  points:"
        yield from (f"    - {{tokens: {p.tokens}, seconds: {_number(p.seconds)}}}" for p in prefill.points)
    yield "decode:"
    yield "  points:"
    yield from (f"    - {{requests: {p.requests}, seconds: {_number(p.seconds)}}}" for p in decode.points)
    yield f"  per_context_token_s: {_number(decode.per_context_token_s)}"
    yield f"  max_batch: {decode.max_batch}"


def _number(value: float) -> str:
    """YAML takes `4e-05` for a word: an exponent needs a point before it."""
    if value == int(value) and abs(value) < _WHOLE:
        return str(int(value))
    mantissa, e, exponent = repr(value).partition("e")
    return mantissa if not e else f"{mantissa if '.' in mantissa else mantissa + '.0'}e{exponent}"


def _text(value: str) -> str:
    """In quotes, whatever it holds: a name may look like a number, or hold a colon."""
    return str(yaml.safe_dump(value, default_style='"', width=_WHOLE)).rstrip("\n")
