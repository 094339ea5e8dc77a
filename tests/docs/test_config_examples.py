"""Whatever YAML our documents show is accepted: part of a fleet file, or a whole profile or deployment file."""

import re
from pathlib import Path

import pytest
import yaml

from prfaas.config.deployment import DeploymentFile
from prfaas.config.profile_file import ProfileFile
from prfaas.config.sections import EngineSection, FleetConfig, PrefixCacheSection, SecuritySection, TransportSection

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)
EXAMPLES = [(path.name, text) for path in sorted(DOCS.rglob("*.md")) for text in BLOCK.findall(path.read_text("utf-8"))]
NEEDED = {"model": {"path": "m", "name": "m"}, "clusters": [{"name": "c", "kind": "pd"}]}


@pytest.mark.parametrize("text", [text for _, text in EXAMPLES], ids=[name for name, _ in EXAMPLES])
def test_an_example_is_accepted(text: str) -> None:
    written = yaml.safe_load(text)
    if "workload" in written:
        DeploymentFile.model_validate(written)
    elif "source" in written:
        ProfileFile.model_validate(written)
    else:
        FleetConfig.model_validate(NEEDED | written)


def test_the_prefix_cache_is_documented_with_every_key_and_its_default() -> None:
    shown = dict(EXAMPLES)["prefix-cache.md"]
    written = yaml.safe_load(shown)["engine"]
    engine = EngineSection.model_validate(written)
    assert set(written["prefix_cache"]) == set(PrefixCacheSection.model_fields)
    assert engine.prefix_cache.disk is not None
    assert engine.prefix_cache.disk.limit_gib == 16
    without_disk = engine.prefix_cache.model_copy(update={"disk": None})
    assert engine.model_copy(update={"prefix_cache": without_disk}) == EngineSection()


def test_the_transport_is_documented_with_every_key_and_its_default() -> None:
    written = yaml.safe_load(dict(EXAMPLES)["links.md"])["transport"]
    assert set(written) == set(TransportSection.model_fields)
    assert TransportSection.model_validate(written) == TransportSection()


def test_every_key_of_security_is_documented() -> None:
    rows = [line for line in (DOCS / "security.md").read_text("utf-8").splitlines() if line.startswith("| `")]
    named = {key for row in rows for key in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert named == set(SecuritySection.model_fields)
