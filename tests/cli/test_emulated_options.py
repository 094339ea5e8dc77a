"""`prfaas serve --engine emulated` says what a fleet file would."""

from pathlib import Path

import pytest

from prfaas.cli.commands.serving import Engine, emulated_overrides
from prfaas.config.load import load
from prfaas.config.sections import EmulatedSection
from prfaas.core.errors import ConfigError

ROOT = Path(__file__).parents[2] / "configs"
H20 = ROOT / "profiles" / "paper-1t-h20.yaml"


def test_options_become_the_fleets_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(H20.parent)  # a path on the command line starts where the user is
    overrides = emulated_overrides(Engine.EMULATED, Path(H20.name), 2.5, 0.01)
    fleet = load(ROOT / "demo.yaml", overrides)
    assert fleet.engine.emulated == EmulatedSection(profile=H20, time_scale=2.5, kv_scale=0.01)


def test_without_the_option_nothing_is_said() -> None:
    assert emulated_overrides(Engine.COMPUTED, None, 1.0, 1.0) == ()


@pytest.mark.parametrize(
    ("engine", "profile", "time_scale", "words"),
    [
        (Engine.EMULATED, None, 1.0, "--engine emulated needs --profile FILE"),
        (Engine.COMPUTED, H20, 1.0, "are for --engine emulated"),
        (Engine.COMPUTED, None, 2.0, "are for --engine emulated"),
    ],
)
def test_options_that_do_not_go_together(engine: Engine, profile: Path | None, time_scale: float, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        emulated_overrides(engine, profile, time_scale, 1.0)


def test_a_scale_out_of_range_is_told_by_its_key() -> None:
    with pytest.raises(ConfigError, match=r"engine\.emulated\.kv_scale"):
        load(ROOT / "demo.yaml", emulated_overrides(Engine.EMULATED, H20, 1.0, 2.0))
