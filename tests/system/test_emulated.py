"""A fleet of emulated accelerators as real processes, none of which has torch."""

from pathlib import Path

import pytest
import yaml

from prfaas.cli.fleet import Child
from tests.system.fleets import LONG_WORDS, processes, prompt_of, write_fleet_file

pytestmark = pytest.mark.system

PROFILES = Path(__file__).parents[2] / "configs" / "profiles"


def mapped(child: Child) -> str:
    """The files that a process and those it started have mapped."""
    pids = [child.process.pid]
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            pids += map(int, (task / "children").read_text().split())
    assert len(pids) == (2 if child.spec.kind in ("prefill", "decode") else 1)
    return "".join(Path(f"/proc/{pid}/maps").read_text() for pid in pids)


async def test_a_fleet_without_torch_answers_alike_wherever_it_prefills(tmp_path: Path, model: Path) -> None:
    scales = {"time_scale": 100.0, "kv_scale": 0.005}
    file = write_fleet_file(
        tmp_path, model, engine={"emulated": {"profile": str(PROFILES / "paper-1t-h20.yaml"), **scales}}
    )
    raw = yaml.safe_load(file.read_text())
    own = {"emulated": {"profile": str(PROFILES / "paper-1t-h200.yaml"), **scales}}
    raw["clusters"][0]["instances"][0]["engine"] = own
    raw["model"]["max_context_tokens"] = 100_000  # the checkpoint's own limit is far below
    file.write_text(yaml.safe_dump(raw))
    async with processes(file, tmp_path) as fleet:
        prompt = prompt_of(LONG_WORDS)
        remote = await fleet.ask(prompt, max_tokens=30, prefill="remote")
        local = await fleet.ask(prompt, max_tokens=30, prefill="local")
        assert (remote["prefill"]["cluster"], local["prefill"]["cluster"]) == ("east", "west")
        assert (remote["fallback"], local["fallback"]) == (None, None)
        assert remote["token_ids"] == local["token_ids"]
        assert len(set(remote["token_ids"])) > 5
        tokens = remote["prefill"]["tokens_computed"]
        assert remote["kv"]["bytes_raw"] == pytest.approx((tokens * 17_100 + 182.8e6) * 0.005, rel=0.01)
        assert await fleet.metric("east-prefill-0", "prfaas_emulation_late_seconds_count") > 0
        await fleet.settled()
        assert not [child.spec.name for child in fleet.fleet.children if "torch" in mapped(child)]
