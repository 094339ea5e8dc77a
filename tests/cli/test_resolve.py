"""Which instance a command line means."""

from pathlib import Path

import pytest

from prfaas.cli.fleet import process_specs
from prfaas.cli.serve import resolve_instance
from prfaas.config.load import load
from prfaas.core.errors import ConfigError

DEMO = Path(__file__).parents[2] / "configs" / "demo.yaml"
CONFIG = load(DEMO)


def test_a_listed_instance_brings_its_settings() -> None:
    home, section = resolve_instance(CONFIG, "decode", None, "west-decode-0")
    assert (home.name, section) == ("west", CONFIG.clusters[1].instances[1])


def test_an_unlisted_name_joins_with_defaults() -> None:
    home, section = resolve_instance(CONFIG, "prefill", "east", "east-prefill-9")
    assert (home.name, section.name, section.role) == ("east", "east-prefill-9", "prefill")
    _, unnamed = resolve_instance(CONFIG, "decode", None, None)
    assert unnamed.name.startswith("west-decode-")


def test_prefill_could_join_either_cluster_so_it_must_be_said() -> None:
    with pytest.raises(ConfigError, match=r"--cluster \(not given\): choose one of the file's clusters: east, west"):
        resolve_instance(CONFIG, "prefill", None, None)


def test_processes_start_with_relays_and_router() -> None:
    specs = process_specs(CONFIG, DEMO, ("a.b=1",), "info")
    assert [s.kind for s in specs] == ["relay", "router", "prefill", "prefill", "decode"]
    assert all(s.arguments[-2:] == ("--set", "a.b=1") for s in specs)
