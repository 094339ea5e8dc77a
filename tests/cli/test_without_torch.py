"""A router, a relay and everything pure run where torch is not installed, and an instance's front without it."""

import subprocess
import sys

import pytest

MODULES = [
    "prfaas.cache.pool",
    "prfaas.cli.build_emulated_engine",
    "prfaas.cli.build_instance",
    "prfaas.cli.build_router",
    "prfaas.cli.main",
    "prfaas.cli.plan",
    "prfaas.cli.simulate",
    "prfaas.cli.up",
    "prfaas.control.dial",
    "prfaas.engine.engine",
    "prfaas.gateway.app",
    "prfaas.planner.catalogue",
    "prfaas.policy.place",
    "prfaas.relay.server",
    "prfaas.scheduler.scheduler",
    "prfaas.transport.server",
    "prfaas.wire.receiving",
]


@pytest.mark.parametrize("module", MODULES)
def test_imports_without_torch(module: str) -> None:
    code = f"import sys; sys.modules['torch'] = None; import {module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_command_line_loads_only_what_a_command_needs() -> None:
    heavy = ["cryptography", "grpc", "numpy", "plotly", "pydantic", "torch", "uvicorn"]
    code = f"import sys; import prfaas.cli.main; assert not [name for name in {heavy} if name in sys.modules]"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
