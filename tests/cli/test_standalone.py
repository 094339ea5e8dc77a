"""A fleet without a file: sizes and dtype that fit the machine."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.cache.layout import lay_out
from prfaas.cli.gpu_memory import free_gpu_bytes
from prfaas.cli.standalone import ON_GPU, cpu_flags, fleet_file, free_bytes, preferred_dtype, sized
from prfaas.core.errors import ConfigError, ModelError
from prfaas.core.shape import CacheTensor, LayerCache, ModelShape
from prfaas.models.demo_model import write_demo_model

PAGED = LayerCache("gqa", paged=True, tensors=(CacheTensor("k", (2, 64), "bfloat16"),))
STATE = LayerCache("gdn", paged=False, tensors=(CacheTensor("state", (8, 64, 64), "float32"),))
PAGE_TOKENS = 64


@given(
    layers=st.lists(st.sampled_from([PAGED, STATE]), min_size=1, max_size=60),
    free=st.integers(10**8, 10**12),
    context=st.integers(1024, 2**20),
)
def test_the_cache_fits_into_half_of_the_free_memory(layers: list[LayerCache], free: int, context: int) -> None:
    shape = ModelShape("any", tuple(layers), context)
    engine, layout = sized(shape, free, cores=4), lay_out(shape, PAGE_TOKENS)
    assert layout.num_bytes(engine["num_pages"]) <= free / 2
    assert engine["threads"] == 4
    assert engine["max_running_requests"] >= 1
    # Each of those that run at once has its state, a snapshot, and a block beside each.
    assert engine["num_pages"] >= engine["max_running_requests"] * 2 * (layout.state_pages + 1)


def test_a_machine_without_memory_still_gets_a_fleet_that_may_fail_later() -> None:
    engine = sized(ModelShape("any", (PAGED, STATE), 4096), -1, cores=1)
    smallest = lay_out(ModelShape("any", (PAGED, STATE), 4096), PAGE_TOKENS).state_pages + 1
    assert engine == {"num_pages": smallest, "max_running_requests": 1, "step_tokens": 2048, "threads": 1}


@pytest.mark.parametrize(
    ("raw", "flags", "expected"),
    [
        ({"dtype": "bfloat16"}, {"avx512_bf16"}, "bfloat16"),
        ({"torch_dtype": "bfloat16"}, {"amx_bf16", "avx2"}, "bfloat16"),
        ({"text_config": {"dtype": "bfloat16"}}, {"bf16"}, "bfloat16"),
        ({"dtype": "bfloat16"}, {"avx2"}, "float32"),
        ({"dtype": "float32"}, {"avx512_bf16"}, "float32"),
        ({}, {"avx512_bf16"}, "float32"),
    ],
)
def test_bfloat16_only_where_checkpoint_and_processor_have_it(
    raw: dict[str, object], flags: set[str], expected: str
) -> None:
    assert preferred_dtype(raw, frozenset(flags)) == expected


def test_this_machine_says_what_it_is() -> None:
    assert "fpu" in cpu_flags() or "fp" in cpu_flags()
    assert 0 < free_bytes() < 1 << 50


def test_the_file_is_a_fleet_of_one_and_goes_away(tmp_path: Path) -> None:
    write_demo_model(tmp_path / "demo")
    with fleet_file(tmp_path / "demo", "127.0.0.1:0", None, ["engine.threads=1"]) as (path, fleet):
        assert path.is_file()
        assert fleet.model.name == "demo"
        assert fleet.engine.threads == 1
        assert [i.role for c in fleet.clusters for i in c.instances] == ["decode"]
    assert not path.exists()


def test_what_is_wrong_is_said_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"), fleet_file(tmp_path / "no", "127.0.0.1:0", None, []):
        pass
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(ModelError, match="llama"), fleet_file(tmp_path, "127.0.0.1:0", None, []):
        pass
    write_demo_model(tmp_path / "demo")
    with pytest.raises(ConfigError, match="http"), fleet_file(tmp_path / "demo", "nowhere", None, []):
        pass


@pytest.fixture
def gpu_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Puts a program on the path that says of GPU 1, and of no other, what it is given."""

    def says(text: str) -> Path:
        tool, asked = tmp_path / "bin/nvidia-smi", tmp_path / "asked"
        tool.parent.mkdir(exist_ok=True)
        tool.write_text(f'#!/bin/sh\necho "$@" > {asked}\n[ "$1" = --id=1 ] && echo \'{text}\' || exit 6\n')
        tool.chmod(0o755)
        return asked

    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    return says


def test_what_the_first_visible_gpu_has_free(gpu_tool: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = gpu_tool("140000")
    assert free_gpu_bytes() == 140_000 * 2**20
    assert "--query-gpu=memory.free" in asked.read_text()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert free_gpu_bytes() is None, "it is hidden"


@pytest.mark.parametrize(("said", "visible"), [("[N/A]", "1"), ("", "1"), ("140000", "2")])
def test_a_gpu_that_does_not_say_is_none_and_the_log_says_why(
    gpu_tool: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    said: str,
    visible: str,
) -> None:
    gpu_tool(said)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert free_gpu_bytes() is None
    assert f"what GPU {visible} has free" in caplog.text


def test_without_the_tool_there_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert free_gpu_bytes() is None


def test_a_fleet_on_a_gpu_has_its_sizes(gpu_tool: Callable[[str], Path], tmp_path: Path) -> None:
    gpu_tool("2000")
    write_demo_model(tmp_path / "demo")
    with fleet_file(tmp_path / "demo", "127.0.0.1:0", None, []) as (_, on_gpu):
        assert on_gpu.engine.step_tokens == ON_GPU.step_tokens
    with fleet_file(tmp_path / "demo", "127.0.0.1:0", None, ["engine.device=cpu"]) as (_, on_cpu):
        assert on_cpu.engine.device == "cpu"
        assert on_cpu.engine.num_pages > on_gpu.engine.num_pages
