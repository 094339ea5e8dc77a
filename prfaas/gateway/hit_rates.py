"""How much of the prompts was cached, as the directory predicted it and as instances say that it was. Knows no time."""

from dataclasses import dataclass

MAX_INSTANCES = 4096
"""Accounts name instances; what lies in them must not grow without end."""
KEPT = 0.5 ** (1 / 200)
"""Of what earlier requests weigh, at each later one: the half after 200."""


@dataclass(slots=True)
class _Tokens:
    prompt: float = 0.0
    predicted: float = 0.0
    reused: float = 0.0

    def add(self, prompt: int, predicted: int, reused: int) -> None:
        self.prompt = self.prompt * KEPT + prompt
        self.predicted = self.predicted * KEPT + predicted
        self.reused = self.reused * KEPT + reused


class HitRates:
    """Shares of the latest requests' prompt tokens, 0 to 1; None before the first."""

    def __init__(self) -> None:
        self._all = _Tokens()
        self._by_instance: dict[str, _Tokens] = {}

    def add(self, instance_id: str, prompt_tokens: int, predicted_tokens: int, reused_tokens: int) -> None:
        """A prompt was prefilled on an instance."""
        own = self._by_instance.setdefault(instance_id, _Tokens())
        for tokens in (self._all, own):
            tokens.add(prompt_tokens, predicted_tokens, min(reused_tokens, prompt_tokens))
        if len(self._by_instance) > MAX_INSTANCES:
            del self._by_instance[next(iter(self._by_instance))]

    @property
    def predicted(self) -> float | None:
        """What the directory said need not be computed."""
        return self._all.predicted / self._all.prompt if self._all.prompt else None

    @property
    def realised(self) -> float | None:
        """What was not computed."""
        return self._all.reused / self._all.prompt if self._all.prompt else None

    def of(self, instance_id: str) -> float | None:
        """What one instance did not compute of the prompts that it prefilled."""
        own = self._by_instance.get(instance_id)
        return own.reused / own.prompt if own and own.prompt else None
