"""What the first GPU has free, asked of its driver's tool: the commands that size a fleet start without torch."""

import logging
import os
import shutil
import subprocess

log = logging.getLogger(__name__)

_TIMEOUT_S = 10


def free_gpu_bytes() -> int | None:
    """Of the GPU that an engine here would take first; None where there is none."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    tool = shutil.which("nvidia-smi")
    if tool is None or visible in ("", "-1"):
        return None
    which = visible.split(",")[0].strip() if visible else "0"
    query = [tool, f"--id={which}", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True)  # noqa: S603
        return int(done.stdout.split()[0]) * 2**20
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        log.warning("nvidia-smi does not say what GPU %s has free, so sizes are those of a CPU: %s", which, error)
        return None
