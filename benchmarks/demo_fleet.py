"""Fleets of real processes on free ports that serve the demo model, and prompts of a given length for them."""

import itertools
import socket
from pathlib import Path
from typing import Any

import yaml
from tokenizers import Tokenizer

from prfaas.cli.fleet import Fleet, process_specs
from prfaas.config.load import load
from prfaas.config.sections import FleetConfig
from prfaas.models.demo_text import demo_text

MODEL_NAME = "prfaas-demo"
_TEMPLATE_TOKENS = 20
Clusters = list[dict[str, Any]]

TWO_DATACENTERS: Clusters = [
    {"name": "east", "kind": "prfaas", "instances": [{"name": "east-prefill", "role": "prefill"}]},
    {
        "name": "west",
        "kind": "pd",
        "instances": [{"name": "west-prefill", "role": "prefill"}, {"name": "west-decode", "role": "decode"}],
    },
]
DECODE_ALONE: Clusters = [{"name": "west", "kind": "pd", "instances": [{"name": "west-decode", "role": "decode"}]}]


def fleet_file(path: Path, model: Path, clusters: Clusters, gbit_s: float, rtt_ms: float) -> FleetConfig:
    """Writes a fleet file; two clusters are joined by a relay of that rate and delay."""
    names = [cluster["name"] for cluster in clusters]
    relay = {"listen": _free_address()}
    raw: dict[str, Any] = {
        "model": {"name": MODEL_NAME, "path": str(model)},
        "router": {"http": "127.0.0.1:0", "control": _free_address()},
        "security": {"mode": "plain"},
        "clusters": clusters,
        "links": [{"between": names, "gbit_s": gbit_s, "rtt_ms": rtt_ms, "relay": relay}] if len(names) > 1 else [],
    }
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return load(path)


def fleet(config: FleetConfig, path: Path) -> Fleet:
    """Not started yet; its logs go to a folder beside the file."""
    return Fleet(process_specs(config, path, (), "warning"), config.router.drain_s, path.with_suffix(".logs"))


class Prompts:
    """Real text of any length in tokens. No two begin alike, so that no prefix cache can help."""

    def __init__(self, model: Path) -> None:
        self._text = demo_text()
        tokenizer: Tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
        self._ends = [end for _, end in tokenizer.encode(self._text).offsets]
        self._numbers = itertools.count()

    def of(self, tokens: int) -> str:
        """A little less than `tokens` tokens once it is in the chat template."""
        times, rest = divmod(tokens - _TEMPLATE_TOKENS, len(self._ends))
        return f"{next(self._numbers)} {self._text * times}{self._text[: self._ends[rest]]}"


def _free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return f"127.0.0.1:{probe.getsockname()[1]}"
