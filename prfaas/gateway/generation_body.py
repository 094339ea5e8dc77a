"""What the bodies of both generating endpoints share, and the sampling rules that they come to."""

from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

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
from prfaas.gateway.neutral_fields import NeutralFields
from prfaas.gateway.response_format import ResponseFormat, StructuredOutputs

MAX_STOP_STRINGS = 16
MAX_STOP_CHARS = 512
MAX_TOKENS = 2**31 - 1
MAX_N = 16
ANY_SEED = -1
"""vLLM's way to ask for a seed that is drawn."""

StopString = Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARS)]
Stop = Annotated[
    Annotated[StopString, Tag("<string>")]
    | Annotated[list[StopString], Field(max_length=MAX_STOP_STRINGS), Tag("<list>")],
    Discriminator(string_or_list),
]
Bias = Annotated[float, Field(ge=-MAX_LOGIT_BIAS, le=MAX_LOGIT_BIAS)]


class StreamOptions(Body):
    """How a stream is sent."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = Field(default=None, description="With include_usage: on every chunk.")
    include_obfuscation: Literal[False] | None = None


class GenerationBody(NeutralFields):
    """What chat and text completions share; null means the default."""

    model: str
    max_tokens: int | None = Field(default=None, ge=1, le=MAX_TOKENS)
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
    stream_options: StreamOptions | None = None
    n: int | None = Field(default=None, ge=1, le=MAX_N)
    best_of: int | None = Field(default=None, description="Only what n says: nothing is ranked here.")
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    cache_salt: str | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_SALT_CHARACTERS,
        description="Only requests with the same salt share cached prefixes.",
    )
    user: str | None = Field(default=None, description="Accepted; nothing depends on it.")
    safety_identifier: str | None = Field(default=None, description="Accepted; nothing depends on it.")
    prompt_cache_key: str | None = Field(default=None, description="Accepted; prefixes are found without it.")
    metadata: dict[str, str] | None = Field(default=None, max_length=16, description="Accepted; nothing is kept.")
    store: Literal[False] | None = Field(default=None, description="Nothing is stored here.")
    service_tier: Literal["auto", "default"] | None = Field(default=None, description="There is one tier.")

    @model_validator(mode="after")
    def _fields_that_need_each_other(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options is only allowed with stream: true")
        if self.response_format is not None and self.structured_outputs is not None:
            raise ValueError("response_format and structured_outputs both say what the answer must be; give one")
        if self.best_of is not None and self.best_of != self.choices_per_prompt:
            raise ValueError(f"best_of is {self.best_of}; only n, {self.choices_per_prompt}, is possible here")
        return self

    @property
    def stop_strings(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    @property
    def usage_on_every_chunk(self) -> bool:
        return self.include_usage and bool(self.stream_options and self.stream_options.continuous_usage_stats)

    @property
    def chosen_seed(self) -> int | None:
        """None where one is to be drawn."""
        return None if self.seed in (None, ANY_SEED) else self.seed

    @property
    def choices_per_prompt(self) -> int:
        return self.n or 1

    @property
    def grammar_field(self) -> str:
        return "structured_outputs" if self.structured_outputs else "response_format"

    def grammar(self) -> Grammar | None:
        """What the answer must be."""
        demand = self.structured_outputs or self.response_format
        return demand.grammar() if demand else None

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
