"""What every generating endpoint lets a client say about sampling, and the rules that it comes to."""

from typing import Annotated

from pydantic import Discriminator, Field, Tag

from prfaas.core.request import (
    MAX_LOGIT_BIAS,
    MAX_LOGIT_BIASES,
    MAX_REPETITION_PENALTY,
    MAX_SALT_CHARACTERS,
    MAX_SEED,
    MAX_STOP_TOKEN_IDS,
    MAX_TOP_K,
    MIN_REPETITION_PENALTY,
    Grammar,
    SamplingParams,
)
from prfaas.gateway.body import Body, TokenId, string_or_list

MAX_STOP_STRINGS = 16
MAX_STOP_CHARS = 512
MAX_TOKENS = 2**31 - 1
ANY_SEED = -1
"""vLLM's way to ask for a seed that is drawn."""

StopString = Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARS)]
Stop = Annotated[
    Annotated[StopString, Tag("<string>")]
    | Annotated[list[StopString], Field(max_length=MAX_STOP_STRINGS), Tag("<list>")],
    Discriminator(string_or_list),
]
Bias = Annotated[float, Field(ge=-MAX_LOGIT_BIAS, le=MAX_LOGIT_BIAS)]


class SamplingFields(Body):
    """How tokens are drawn; null means the default."""

    model: str
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=-1, le=MAX_TOP_K, description="0 and -1: all tokens.")
    min_p: float | None = Field(default=None, ge=0, le=1)
    repetition_penalty: float | None = Field(default=None, ge=MIN_REPETITION_PENALTY, le=MAX_REPETITION_PENALTY)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    logit_bias: dict[TokenId, Bias] | None = Field(default=None, max_length=MAX_LOGIT_BIASES)
    seed: int | None = Field(default=None, ge=-MAX_SEED - 1, le=MAX_SEED, description="-1: drawn.")
    stop: Stop | None = None
    stop_token_ids: list[TokenId] | None = Field(default=None, max_length=MAX_STOP_TOKEN_IDS)
    min_tokens: int | None = Field(default=None, ge=0, le=MAX_TOKENS)
    ignore_eos: bool | None = Field(default=None, description="EOS does not end an answer.")
    stream: bool | None = None
    cache_salt: str | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_SALT_CHARACTERS,
        description="Only requests with the same salt share cached prefixes.",
    )

    @property
    def stop_strings(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def chosen_seed(self) -> int | None:
        """None where one is to be drawn."""
        return None if self.seed in (None, ANY_SEED) else self.seed

    def grammar(self) -> Grammar | None:
        """What the answer must be."""
        return None

    def sampling(self, max_tokens: int, seed: int, num_logprobs: int | None) -> SamplingParams:
        """Raises RequestError for values that do not go together."""
        given = {name: value for name in _AS_THEY_ARE if (value := getattr(self, name)) is not None}
        return SamplingParams(
            max_tokens=max_tokens,
            seed=seed,
            stop_token_ids=frozenset(self.stop_token_ids or ()),
            logit_bias=tuple(sorted((self.logit_bias or {}).items())),
            logprobs=num_logprobs,
            grammar=self.grammar(),
            **given,
        )


_AS_THEY_ARE = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "min_tokens",
    "ignore_eos",
)
