"""What of a recorded launch Triton's JIT makes a kernel of its own for; knows no kernel."""

from typing import Any

from torch import Tensor

from prfaas_kernels.launch import Launch

Variant = tuple[str, tuple[tuple[str, object], ...]]


def variant(launch: Launch) -> Variant:
    """The same for two launches if, and only if, one compiled kernel does for both."""
    options = vars(launch.kernel).get("kwargs") or vars(launch.kernel)  # the interpreter's functions keep them apart
    general = options.get("do_not_specialize") or ()
    unaligned = options.get("do_not_specialize_on_alignment") or ()
    given = zip(launch.kernel.arg_names, launch.arguments, strict=False)
    told: list[tuple[str, object]] = [
        (name, _specialised(value, whole=name in general, aligned=name not in (*general, *unaligned)))
        for name, value in given
    ]
    told += sorted(launch.constants.items())
    return launch.kernel.__name__, (*told, ("warps", launch.num_warps), ("stages", launch.num_stages))


def _specialised(value: Any, *, whole: bool, aligned: bool) -> object:
    match value:
        case Tensor():
            return value.dtype, aligned and value.storage_offset() * value.element_size() % 16 == 0
        case int():
            return value.bit_length() > 31, not whole and (value == 1, aligned and value % 16 == 0)
        case _:
            return None if value is None else type(value)
