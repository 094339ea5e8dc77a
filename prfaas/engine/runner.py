"""What the step loop asks of whatever computes its steps. Knows no tensors."""

from collections.abc import Callable
from typing import Protocol

from prfaas.core.ids import RequestId
from prfaas.engine.drawn import Drawn
from prfaas.scheduler.plan import StepPlan

LayerComputed = Callable[[int], None]
"""Called with a layer's number as soon as that layer's cache holds every token of the step."""


class Runner(Protocol):
    """A model, or what stands for one. Owned by the step loop's thread."""

    forward_seconds: float
    """What the last `run` spent computing; steps are put together, and tokens drawn, outside of it."""
    late_s: float | None
    """By how much the last `run` ended after the moment when it should have; None where nothing says when."""

    def run(self, plan: StepPlan, on_layer: LayerComputed) -> Drawn:
        """Computes every chunk, and draws for each sequence whose prompt is complete."""
        ...

    def rest(self) -> None:
        """There is nothing to compute until something new comes."""
        ...

    def forget(self, request_id: RequestId) -> None:
        """Frees what is kept for a request; unknown ids are ignored."""
        ...
