"""Which form of an op runs."""

import sys

import pytest
import torch
from torch import Tensor

from prfaas_kernels.dispatch import MissingTritonError, dispatched, triton_kernels
from prfaas_kernels.norm import cpu, rms_norm
from prfaas_kernels.norm import triton as in_triton


def test_a_tensor_on_the_cpu_takes_the_cpu_s_form_unless_triton_s_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def called(name: str) -> object:
        return lambda *_: name

    op = dispatched(cpu.rms_norm)
    monkeypatch.setattr(in_triton, "rms_norm", called("triton"))
    x = torch.ones(2, 3)
    assert torch.equal(op(x, torch.ones(3), 0.0), x)
    with triton_kernels():
        assert op(x, torch.ones(3), 0.0) == "triton"
        with triton_kernels():
            pass
        assert op(x, torch.ones(3), 0.0) == "triton", "an inner block ends alone"
    assert torch.equal(op(x, torch.ones(3), 0.0), x)


def test_an_op_looks_like_its_cpu_form() -> None:
    assert rms_norm.__name__ == "rms_norm"
    assert rms_norm.__doc__ == cpu.rms_norm.__doc__


def test_without_triton_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "prfaas_kernels.norm.triton")
    monkeypatch.setitem(sys.modules, "triton", None)
    with triton_kernels(), pytest.raises(MissingTritonError, match=r"pip install 'prfaas\[gpu\]'"):
        dispatched(cpu.rms_norm)(torch.ones(2, 3), torch.ones(3), 0.0)


def test_a_fault_inside_a_triton_module_is_not_taken_for_a_missing_triton() -> None:
    def no_such_package(x: Tensor) -> Tensor:
        return x

    no_such_package.__module__ = "prfaas_kernels.nowhere.cpu"
    with triton_kernels(), pytest.raises(ModuleNotFoundError, match="nowhere"):
        dispatched(no_such_package)(torch.ones(1))
