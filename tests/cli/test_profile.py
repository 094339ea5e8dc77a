"""`prfaas profile`: which options go together, what is written, what is measured. No engine here."""

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from prfaas.cli.main import EXIT_USER_ERROR, app
from prfaas.cli.profile_measure import SHORT_CONTEXT, MeasureOptions, measure
from prfaas.cli.profile_report import show_measured, show_profile
from prfaas.config.profile_file import HardwareSection, ProfileModelSection, load_profile
from prfaas.core.errors import ConfigError
from prfaas.planner.catalogue import catalogue
from prfaas.planner.fit import DecodeSample, PrefillSample
from prfaas.planner.measured import CachedSample, compare, profile_measured
from tests.core.configs import PUBLISHED

RUN = CliRunner(env={"COLUMNS": "300"})


def run(*arguments: str) -> Result:
    return RUN.invoke(app, ["profile", *arguments])


def test_a_published_model_is_computed_as_the_catalogue_has_it() -> None:
    done = run("--model", "qwen3.5-397b-a17b", "--gpu", "h200", "--gpus", "8")
    assert done.exit_code == 0
    assert done.stdout == catalogue()["qwen3.5-397b-a17b-h200.yaml"]
    assert "Qwen3.5-397B-A17B on 8xH200" in done.stderr


def test_a_config_of_ones_own_is_computed_and_written(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    config, out = tmp_path / "mine" / "config.json", tmp_path / "mine.yaml"
    config.write_text(json.dumps(PUBLISHED["MiniMax-M2.5"]))
    asked = ("--gpu", "B200", "--gpus", "4", "--efficiency", "0.5", "--overhead", "0.2", "--tpot-ms", "40")
    first = run("--model", str(config), "--out", str(out), *asked)
    assert first.exit_code == 0
    assert first.stdout == ""
    profile = load_profile(out)
    assert (profile.model.name, profile.hardware.name) == ("mine", "4xB200")
    assert profile.prefill.overhead_s == pytest.approx(0.2, abs=1e-3)
    assert "50 % of 2250 TFLOP/s a GPU after 0.2 s (as given)" in profile.source
    again = run("--model", str(config.parent), "--json", *asked)
    assert json.loads(again.stdout) == {"profile": profile.model_dump(mode="json"), "comparisons": []}


def test_a_catalogue_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run("--catalogue", str(tmp_path / "file" / "below"))
    assert done.exit_code == EXIT_USER_ERROR
    assert done.stderr.endswith("Not a directory; give a folder that can be written\n")


def test_the_catalogue_is_written_whole(tmp_path: Path) -> None:
    assert run("--catalogue", str(tmp_path / "new")).exit_code == 0
    assert {file.name: file.read_text() for file in (tmp_path / "new").iterdir()} == catalogue()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give --model DIR to measure here, with --gpu NAME to compute, or --catalogue DIR"),
        (("--catalogue", "x", "--gpu", "H200"), "leave out --gpu"),
        (("--catalogue", "x", "--lengths", "1,2"), "leave out --lengths"),
        (("--model", "m", "--gpus", "8"), "without --gpu the profile is measured here; leave out --gpus"),
        (("--model", "m", "--gpu", "H200", "--batches", "1", "--repeats", "2"), "leave out --batches, --repeats"),
        (("--model", "Ring-2.5-1T", "--gpu", "V100"), "GPU 'V100' is not known; give one of H200"),
        (("--model", "Ring-2.5-1T", "--gpu", "L40S"), "give --gpus 24 or more"),
        (("--model", "nowhere/at-all", "--gpu", "H200"), "nowhere/at-all is neither a directory"),
        (("--model", "nowhere/at-all"), "model directory nowhere/at-all does not exist"),
        (("--model", "Ring-2.5-1T", "--gpu", "H200", "--out", "/no/such/folder/p.yaml"), "give a file in a folder"),
        (("--model", "m", "--lengths", "1000"), "one length makes no line"),
        (("--model", "m", "--lengths", "1k,2k"), "--lengths 1k,2k: give numbers"),
        (("--model", "m", "--batches", "0,1"), "--batches 0,1: give numbers"),
    ],
)
def test_nonsense_is_answered_in_one_line_that_says_what_to_change(arguments: tuple[str, ...], said: str) -> None:
    done = run(*arguments)
    assert done.exit_code == EXIT_USER_ERROR
    assert said in done.stderr


class Formula:
    """Prompts and steps as a formula has them; every other repetition takes twice as long."""

    def __init__(self) -> None:
        self.asked = 0

    def _disturbed(self, seconds: float) -> float:
        self.asked += 1
        return seconds * (1 + self.asked % 2)

    async def prefill(self, tokens: int) -> PrefillSample:
        return PrefillSample(tokens, self._disturbed(0.1 + 1e-4 * tokens + 1e-8 * tokens**2))

    async def prefill_behind(self, tokens: int, cached: int) -> CachedSample | None:
        if cached < 200:
            return None
        seconds = 0.1 + 1e-4 * (tokens - cached) + 1e-8 * (tokens**2 - cached**2)
        return CachedSample(tokens, cached, self._disturbed(seconds))

    async def decode(self, requests: int, context: int) -> DecodeSample:
        return DecodeSample(requests, requests * context, 0.01 + 0.001 * requests + 1e-6 * requests * context)


async def test_what_is_measured_becomes_a_profile_and_a_table() -> None:
    options = MeasureOptions.parsed(Path("m"), None, "4000,1000,100", "8,1", 4, None)
    assert (options.lengths, options.batches, options.long_context) == ((100, 1000, 4000), (1, 8), 1000)
    measured = await measure(Formula(), options, Console(file=StringIO()))
    assert [s.seconds for s in measured.prefills] == pytest.approx([0.1101, 0.21, 0.66]), "half of them were disturbed"
    assert [(s.tokens, s.cached_tokens) for s in measured.cached] == [(1000, 500), (4000, 2000)]
    assert [(s.requests, s.context_tokens) for s in measured.decodes] == [
        (1, SHORT_CONTEXT),
        (1, 1000),
        (8, 8 * SHORT_CONTEXT),
        (8, 8000),
    ]
    model = ProfileModelSection(name="m", kv_bytes_per_token=1000, state_bytes=10**6)
    profile = profile_measured(measured, "made up", model, HardwareSection(name="h", cache_gib=1), max_batch=8)
    page = StringIO()
    console = Console(width=200, file=page)
    show_measured(list(compare(measured, profile)), console)
    show_profile(profile, console)
    said = page.getvalue()
    assert "prefill of 4,000 tokens, 2,000 of them cached" in said
    assert "off by 5.0 % at most (prefill of 4,000 tokens, 2,000 of them cached)" in said
    assert "(beyond what was measured)" in said


def test_lengths_that_are_beyond_any_model_are_nonsense() -> None:
    with pytest.raises(ConfigError, match="give numbers from 1 to"):
        MeasureOptions.parsed(Path("m"), None, "1,99999999", None, None, None)
