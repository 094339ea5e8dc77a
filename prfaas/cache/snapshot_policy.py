"""Where a prompt's linear states are to be kept. A pure function of positions; does not know what they cost.

Every snapshot is of use to prompts that part between it and the next one. Three kinds of places pay on public traces: a
prompt's end, from which the next turn goes on; where a second prompt parts from one that is held, as others will; and
every so many tokens, for prompts that part where none did before.
"""

from dataclasses import dataclass

_NEAR_SHARE = 8
"""Nearer to a neighbour than 1/8 of the spacing, a spaced snapshot is left out: it would serve few, or save little."""


@dataclass(frozen=True, slots=True)
class SnapshotPolicy:
    """`every_tokens`: the spacing inside long prompts, in whole blocks; `answer_tokens`: in answers; 0: none."""

    block_tokens: int
    every_tokens: int = 8192
    answer_tokens: int = 256

    def positions(self, start: int, prompt_tokens: int, branch: int) -> tuple[int, ...]:
        """Block boundaries p, start < p < prompt_tokens, at whose ends snapshots are to be taken; sorted, in tokens.

        `start`: tokens that are not computed, because they are cached. `branch`: tokens whose KV another prompt left
        (`Match.branch_blocks` in tokens); 0, or no more than `start`, where none is to be taken. The last boundary
        before the prompt's end, after which a token remains to be computed, is always one, if it is after `start`.
        """
        last = (prompt_tokens - 1) // self.block_tokens * self.block_tokens
        wanted = {p for p in (min(branch // self.block_tokens * self.block_tokens, last), last) if p > start}
        return tuple(sorted(wanted | set(self._spaced(start, last, wanted))))

    def while_decoding(self, tokens: int, last: int) -> bool:
        """Whether the states after `tokens` tokens are to be kept, where those after `last` are kept already.

        The next turn of a conversation begins with this one's answer. A prompt whose states came from elsewhere, at
        its very end, has none (`last` is 0), and gets one at the first block's end.
        """
        due = self.answer_tokens > 0 and tokens - last >= self.answer_tokens
        return due and tokens % self.block_tokens == 0

    def _spaced(self, start: int, last: int, wanted: set[int]) -> list[int]:
        if not self.every_tokens:
            return []
        step = -(-self.every_tokens // self.block_tokens) * self.block_tokens
        neighbours = [start, *wanted]
        return [
            p
            for p in range((start // step + 1) * step, last, step)
            if all(abs(p - other) * _NEAR_SHARE >= step for other in neighbours)
        ]
