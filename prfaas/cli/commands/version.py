"""The command that tells what runs here: version."""

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version

from rich.console import Console

from prfaas import __version__


def version() -> None:
    """Print the versions of prfaas and of what decides its results."""
    found = [f"prfaas {__version__}", f"python {platform.python_version()}"]
    for package in ("torch", "triton", "grpcio"):
        try:
            found.append(f"{package} {package_version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} not installed")
    Console().print("\n".join(found), highlight=False)
