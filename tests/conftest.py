"""What holds for all tests: none depends on how busy the machine is."""

import os

import torch
from hypothesis import HealthCheck, settings

# Threads that wait for each other on a core that others use make tiny models a hundred times as slow. Engines in
# processes of their own have as many as their configuration says.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Without a GPU, Triton's kernels run in its interpreter, which it decides when it is first imported.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# With one, the deterministic mode in which torch fills uninitialised memory with NaN asks this of cuBLAS.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

settings.register_profile("prfaas", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("prfaas")
