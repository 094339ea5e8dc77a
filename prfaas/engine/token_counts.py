"""Which tokens a request has in its prompt and output, and how often: what penalties ask. Knows no logits."""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor


class TokenCounts:
    """Kept from step to step, so that a long prompt is counted once."""

    def __init__(self, prompt_token_ids: Sequence[int], device: torch.device) -> None:
        self._seen = set(prompt_token_ids)
        self._output: Counter[int] = Counter()
        self._num_output = 0
        self._device = device
        self.seen_ids = self._tensor(sorted(self._seen))
        """Ids of prompt and output, each once."""
        self.output_ids = self.output_times = self._tensor([])
        """Ids of the output, each once, and how often each was drawn."""

    def update(self, output_token_ids: Sequence[int]) -> None:
        """Counts the tokens that came since the last time."""
        new = output_token_ids[self._num_output :]
        if not new:
            return
        self._num_output += len(new)
        self._output.update(new)
        self.output_ids = self._tensor(list(self._output))
        self.output_times = self._tensor(list(self._output.values()))
        if unseen := [token_id for token_id in dict.fromkeys(new) if token_id not in self._seen]:
            self._seen.update(unseen)
            self.seen_ids = torch.cat([self.seen_ids, self._tensor(unseen)])

    def _tensor(self, values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=self._device)
