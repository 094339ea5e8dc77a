"""What router and instances make of a fleet file whose engines are emulated."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from prfaas.cache.layout import lay_out
from prfaas.cli.emulation import (
    MAX_CONTEXT_TOKENS,
    any_emulated,
    emulated_fingerprint,
    emulated_profile,
    engine_words,
    served_shapes,
    sized_engine,
)
from prfaas.cli.serve import with_engine
from prfaas.config.load import load
from prfaas.config.sections import DiskTierSection, EmulatedSection, EngineSection, FleetConfig
from prfaas.core.errors import ConfigError

PROFILES = Path(__file__).parents[2] / "configs" / "profiles"
H20, H200 = PROFILES / "paper-1t-h20.yaml", PROFILES / "paper-1t-h200.yaml"
SCALES = {"time_scale": 4.0, "kv_scale": 0.01}


def fleet(tmp_path: Path, **model: Any) -> FleetConfig:
    own = {"page_tokens": 64, "emulated": {"profile": str(H200), **SCALES}}
    raw = {
        "model": {"name": "m", "path": str(tmp_path), **model},
        "engine": {"emulated": {"profile": str(H20), **SCALES}},
        "security": {"mode": "plain"},
        "clusters": [
            {
                "name": "far",
                "kind": "prfaas",
                "profile": str(H200),
                "instances": [{"name": "p", "role": "prefill", "engine": own}],
            },
            {"name": "near", "kind": "pd", "instances": [{"name": "d", "role": "decode"}]},
        ],
    }
    path = tmp_path / "fleet.yaml"
    path.write_text(yaml.safe_dump(raw))
    return load(path)


def emulated(profile: Path = H20, **more: float) -> EmulatedSection:
    return EmulatedSection(profile=profile, **{**SCALES, **more})


def test_context_is_the_files_and_not_a_checkpoints(tmp_path: Path) -> None:
    config = fleet(tmp_path)
    shapes = served_shapes(config, config.engine)
    assert shapes["float32"] == shapes["bfloat16"]
    assert shapes["float32"].max_context_tokens == MAX_CONTEXT_TOKENS
    limited = fleet(tmp_path, max_context_tokens=140_000)
    assert served_shapes(limited, limited.engine)["float32"].max_context_tokens == 140_000


def test_the_pool_holds_as_many_tokens_as_the_profiles_memory(tmp_path: Path) -> None:
    config = fleet(tmp_path)
    shape = served_shapes(config, config.engine)["float32"]
    sized = sized_engine(config.engine, shape)
    assert sized.num_pages * 64 == pytest.approx(178 * 2**30 / 17_100, rel=0.01)
    assert lay_out(shape, 64).state_pages == pytest.approx(182.8e6 / 17_100 / 64, rel=0.02)
    assert sized_engine(EngineSection(num_pages=5), shape).num_pages == 5


def test_kv_is_interchangeable_between_hardware_and_not_between_scales(tmp_path: Path) -> None:
    shape = served_shapes(config := fleet(tmp_path), config.engine)["float32"]
    name = emulated_fingerprint(emulated(), shape, 1000)
    assert emulated_fingerprint(emulated(H200), shape, 1000) == name
    assert emulated_fingerprint(emulated(time_scale=2.0), shape, 1000) != name
    assert emulated_fingerprint(emulated(kv_scale=0.02), shape, 1000) != name
    assert emulated_fingerprint(emulated(), shape, 999) != name
    assert engine_words(emulated(H200)) == "emulated paper-1t on 8xH200 x4"


def test_what_makes_no_sense_for_an_emulated_engine_is_refused(tmp_path: Path) -> None:
    config = fleet(tmp_path)
    shape = served_shapes(config, config.engine)["float32"]
    with pytest.raises(ConfigError, match="tensor_parallel is for models"):
        sized_engine(config.engine.model_copy(update={"tensor_parallel": 2}), shape)
    caching = config.engine.prefix_cache.model_copy(update={"disk": DiskTierSection(path=tmp_path)})
    with pytest.raises(ConfigError, match="keeps nothing on disk"):
        sized_engine(config.engine.model_copy(update={"prefix_cache": caching}), shape)
    small = tmp_path / "small.yaml"
    small.write_text(H20.read_text().replace("cache_gib: 178", "cache_gib: 0.1"))
    engine = config.engine.model_copy(update={"emulated": emulated(small)})
    with pytest.raises(ConfigError, match=r"small\.yaml: hardware\.cache_gib holds no request, .* 0\.17. GiB; raise"):
        sized_engine(engine, shape)
    with pytest.raises(ConfigError, match="nowhere"):
        emulated_profile(emulated(tmp_path / "nowhere.yaml"))


def test_an_option_reaches_instances_with_an_engine_section_of_their_own(tmp_path: Path) -> None:
    config = fleet(tmp_path)
    assert with_engine(config, "p", emulated=False) is config
    own = with_engine(config, "p", emulated=True).clusters[0].instances[0].engine
    assert own is not None
    assert own.emulated == config.engine.emulated
    other = with_engine(config, "d", emulated=True).clusters[0].instances[0].engine
    assert other == config.clusters[0].instances[0].engine
    plain = config.model_copy(update={"engine": EngineSection()})
    assert any_emulated(plain).emulated == emulated(H200)
    assert any_emulated(plain.model_copy(update={"clusters": plain.clusters[1:]})).emulated is None
