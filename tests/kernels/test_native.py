from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from prfaas_kernels import native
from prfaas_kernels.toolchain import build


@pytest.fixture(autouse=True)
def disabled_afterwards() -> Iterator[None]:
    yield
    native.disable()


def fake_compiler(directory: Path, script: str) -> str:
    path = directory / "compiler"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_ops_use_torch_until_enabled() -> None:
    assert not native.active()
    assert not native.takes(torch.ones(2, 2))


def test_missing_compiler_is_a_build_error(tmp_path: Path) -> None:
    with pytest.raises(native.BuildError, match="no-such-compiler"):
        native.enable(tmp_path, "no-such-compiler")
    assert not native.active()


def test_compiler_that_fails_is_quoted_and_leaves_nothing(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    compiler = fake_compiler(tmp_path, 'test "$1" = --version || { echo strange flag >&2; exit 1; }')
    with pytest.raises(native.BuildError, match="strange flag"):
        native.enable(kept, compiler)
    assert list(kept.iterdir()) == []


def test_library_that_does_not_load_is_a_build_error(tmp_path: Path) -> None:
    writes_rubbish = 'test "$1" = --version || for out; do :; done; test "$1" = --version || echo rubbish > "$out"'
    with pytest.raises(native.BuildError, match="cannot load"):
        native.enable(tmp_path / "kept", fake_compiler(tmp_path, writes_rubbish))
    assert not native.active()


def test_directory_that_cannot_be_made_is_a_build_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(native.BuildError):
        native.enable(tmp_path / "file" / "below", fake_compiler(tmp_path, "exit 0"))


def test_a_library_is_compiled_once_for_each_compiler(tmp_path: Path) -> None:
    copies = 'test "$1" = --version && echo one || { for out; do :; done; echo made >> "$out"; }'
    kept = tmp_path / "kept"
    first = build(kept, fake_compiler(tmp_path, copies))
    made = first.stat().st_mtime_ns
    assert build(kept, fake_compiler(tmp_path, copies)) == first
    assert first.stat().st_mtime_ns == made
    assert build(kept, fake_compiler(tmp_path, copies.replace("echo one", "echo two"))) != first


def test_takes_only_what_kernels_can_read(form: str) -> None:
    enabled = form == "compiled"
    assert native.takes(torch.ones(3, 4), torch.ones(4).bfloat16()) is enabled
    assert not native.takes(torch.ones(3, 4, dtype=torch.float16))
    assert not native.takes(torch.ones(3, 4).T)
