"""What the bodies of chat and text completions share."""

from typing import Self

from pydantic import Field, model_validator

from prfaas.core.request import Grammar
from prfaas.gateway.body import Body, OnlyFalse
from prfaas.gateway.bookkeeping_fields import BookkeepingFields
from prfaas.gateway.neutral_fields import NeutralFields
from prfaas.gateway.response_format import ResponseFormat, StructuredOutputs
from prfaas.gateway.sampling_fields import MAX_TOKENS, SamplingFields

MAX_N = 16


class StreamOptions(Body):
    """How a stream is sent."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = Field(default=None, description="With include_usage: on every chunk.")
    include_obfuscation: OnlyFalse | None = None


class GenerationBody(SamplingFields, BookkeepingFields, NeutralFields):
    """What chat and text completions share; null means the default."""

    max_tokens: int | None = Field(default=None, ge=1, le=MAX_TOKENS)
    stream_options: StreamOptions | None = None
    n: int | None = Field(default=None, ge=1, le=MAX_N)
    best_of: int | None = Field(default=None, description="Only what n says: nothing is ranked here.")
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None

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
    def include_usage(self) -> bool:
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    @property
    def usage_on_every_chunk(self) -> bool:
        return self.include_usage and bool(self.stream_options and self.stream_options.continuous_usage_stats)

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
