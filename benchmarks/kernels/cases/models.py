"""All that published models launch in a step, compiled though no case of an op names it."""

import json
from pathlib import Path

import torch

from benchmarks.kernels.case import Case, Run
from benchmarks.kernels.whole_models import step
from benchmarks.page_layout import PUBLISHED


def _case(file: Path) -> Case:
    def make(device: torch.device) -> Run:
        return step(json.loads(file.read_text()), device)

    return Case("models", f"a step of {file.stem}", make, bytes_moved=0, timed=False)


CASES = tuple(_case(file) for file in sorted(PUBLISHED.glob("*.json")))
