"""The device that an engine is given, on machines with and without a GPU."""

import importlib.util

import pytest
import torch

from prfaas.cli.device import allocate_pages, choose_device
from prfaas.core.errors import ConfigError


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a GPU")


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu() -> None:
    assert choose_device("auto", 1) == choose_device("cpu", 2) == torch.device("cpu")
    with pytest.raises(ConfigError, match="finds no GPU here; set it to cpu"):
        choose_device("cuda", 1)


@pytest.mark.usefixtures("gpu")
def test_with_a_gpu() -> None:
    assert choose_device("auto", 1) == choose_device("cuda", 1) == torch.device("cuda", 0)
    assert choose_device("cpu", 4) == torch.device("cpu")


@pytest.mark.usefixtures("gpu")
def test_a_gpu_is_refused_where_it_could_not_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"engine\.tensor_parallel is for CPUs only"):
        choose_device("auto", 2)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'prfaas\[gpu\]'"):
        choose_device("auto", 1)


def test_pages_that_do_not_fit_name_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    assert allocate_pages(100, torch.device("cpu")).shape == (100,)

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(torch, "empty", full)
    with pytest.raises(ConfigError, match=r"engine\.num_pages takes 3\.0 GiB"):
        allocate_pages(3 * 2**30, torch.device("cpu"))
