"""A request as every instance sees it: token ids in, sampling rules, token ids out."""

from dataclasses import dataclass, field
from enum import StrEnum

from prfaas.core.errors import RequestError
from prfaas.core.ids import RequestId
from prfaas.core.logprobs import MAX_TOP_LOGPROBS

MAX_SEED = 2**63 - 1
MAX_TOP_K = 2**31 - 1
MAX_LOGIT_BIAS = 100.0
MAX_LOGIT_BIASES = 1024
MAX_STOP_TOKEN_IDS = 256
MAX_REPETITION_PENALTY = 100.0
MIN_REPETITION_PENALTY = 0.01
MAX_GRAMMAR_BYTES = 64 << 10
MAX_SALT_CHARACTERS = 256


class FinishReason(StrEnum):
    """Why a request ended, in OpenAI's words where they exist."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"


class GrammarKind(StrEnum):
    """What the text of a grammar is."""

    JSON_SCHEMA = "json_schema"
    JSON_OBJECT = "json_object"
    """Any JSON object; the text is empty."""
    REGEX = "regex"


@dataclass(frozen=True, slots=True)
class Grammar:
    """What the text of an answer must be, from its first character to its last."""

    kind: GrammarKind
    text: str = ""

    def __post_init__(self) -> None:
        if (size := len(self.text.encode())) > MAX_GRAMMAR_BYTES:
            raise RequestError(f"grammar has {size} bytes; at most {MAX_GRAMMAR_BYTES} are compiled")


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How tokens are drawn. `temperature` 0 is greedy; `seed` fixes the draw of every position of the request.

    The order is vLLM's: logit bias, repetition penalty (prompt and output), frequency and presence penalty (output
    only), temperature, min-p, top-k, top-p. Raises RequestError that names the field which is out of range.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    stop_token_ids: frozenset[int] = frozenset()
    ignore_eos: bool = False
    top_k: int = 0
    """Draw among so many of the likeliest tokens; 0 and -1 mean all."""
    min_p: float = 0.0
    """Tokens less likely than this share of the likeliest are not drawn."""
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    """(token id, added to its logit), in rising order of ids."""
    logprobs: int | None = None
    """How many of the likeliest tokens to report with every drawn one; None: report nothing."""
    min_tokens: int = 0
    """Neither EOS nor a stop token is drawn before so many tokens were."""
    grammar: Grammar | None = None
    answered_tokens: int = 0
    """So many tokens at the end of the prompt are the beginning of the answer, drawn elsewhere: positions, penalties
    and grammar go on from them. `max_tokens` and `min_tokens` are those still to come."""

    def __post_init__(self) -> None:
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if not low <= value <= high:
                raise RequestError(f"{name} is {value}; it must be between {low:g} and {high:g}")
        if self.max_tokens < 1:
            raise RequestError(f"max_tokens is {self.max_tokens}; it must be at least 1")
        if not 0.0 < self.top_p <= 1.0:
            raise RequestError(f"top_p is {self.top_p}; it must be above 0 and at most 1")
        if not 0 <= self.seed <= MAX_SEED:
            raise RequestError(f"seed is {self.seed}; it must be between 0 and 2**63 - 1")
        if not -1 <= self.top_k <= MAX_TOP_K:
            raise RequestError(f"top_k is {self.top_k}; it must be between 1 and {MAX_TOP_K}, or 0 or -1 for all")
        if self.logprobs is not None and not 0 <= self.logprobs <= MAX_TOP_LOGPROBS:
            raise RequestError(f"logprobs is {self.logprobs}; it must be between 0 and {MAX_TOP_LOGPROBS}")
        if not 0 <= self.min_tokens <= self.max_tokens:
            raise RequestError(f"min_tokens is {self.min_tokens}; it must be between 0 and max_tokens")
        if self.answered_tokens < 0:
            raise RequestError(f"answered_tokens is {self.answered_tokens}; it must be at least 0")
        self._check_tokens()
        self._check_grammar()

    @property
    def penalises(self) -> bool:
        """Tokens that occurred before are drawn more or less often."""
        return self.repetition_penalty != 1.0 or self.presence_penalty != 0.0 or self.frequency_penalty != 0.0

    @property
    def special(self) -> bool:
        """Drawing needs more than the logits of one position."""
        return self.penalises or self.min_tokens > 0 or self.grammar is not None

    def _check_tokens(self) -> None:
        if len(self.stop_token_ids) > MAX_STOP_TOKEN_IDS:
            raise RequestError(f"stop_token_ids has {len(self.stop_token_ids)} ids; at most {MAX_STOP_TOKEN_IDS} fit")
        if self.stop_token_ids and min(self.stop_token_ids) < 0:
            raise RequestError(f"stop_token_ids has {min(self.stop_token_ids)}; a token id is at least 0")
        if len(self.logit_bias) > MAX_LOGIT_BIASES:
            raise RequestError(f"logit_bias has {len(self.logit_bias)} entries; at most {MAX_LOGIT_BIASES} fit")
        before = -1
        for token_id, bias in self.logit_bias:
            if token_id <= before:
                raise RequestError(f"logit_bias has token id {token_id} after {before}; ids must rise from 0 on")
            if not -MAX_LOGIT_BIAS <= bias <= MAX_LOGIT_BIAS:
                raise RequestError(f"logit_bias of token id {token_id} is {bias}; it must be between -100 and 100")
            before = token_id

    def _check_grammar(self) -> None:
        """A grammar ends with EOS, and only where it accepts: neither may be ruled out."""
        if self.grammar is None:
            return
        if self.ignore_eos:
            raise RequestError("ignore_eos cannot be combined with a grammar, whose answer ends with EOS")
        if self.min_tokens:
            raise RequestError("min_tokens cannot be combined with a grammar, which may allow only shorter answers")


_RANGES: tuple[tuple[str, float, float], ...] = (
    ("temperature", 0.0, 2.0),
    ("min_p", 0.0, 1.0),
    ("repetition_penalty", MIN_REPETITION_PENALTY, MAX_REPETITION_PENALTY),
    ("presence_penalty", -2.0, 2.0),
    ("frequency_penalty", -2.0, 2.0),
)


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt and how to continue it."""

    request_id: RequestId
    prompt_token_ids: tuple[int, ...] = field(repr=False)
    sampling: SamplingParams

    cache_salt: str = ""
    """Only requests with the same salt share cached prefixes."""

    def __post_init__(self) -> None:
        if not self.prompt_token_ids:
            raise RequestError("the prompt has no tokens; send at least one")
        if (answered := self.sampling.answered_tokens) >= (length := len(self.prompt_token_ids)):
            raise RequestError(f"answered_tokens is {answered}; it must be below the prompt's {length} tokens")
        if (length := len(self.cache_salt)) > MAX_SALT_CHARACTERS:
            raise RequestError(f"cache_salt has {length} characters; at most {MAX_SALT_CHARACTERS} are taken")

    @property
    def prompt_tokens(self) -> int:
        return len(self.prompt_token_ids)

    @property
    def answered_token_ids(self) -> tuple[int, ...]:
        """The end of the prompt that is the beginning of the answer."""
        return self.prompt_token_ids[self.prompt_tokens - self.sampling.answered_tokens :]

    @property
    def max_total_tokens(self) -> int:
        """Tokens whose KV can exist at once: the last token sampled is never fed back."""
        return self.prompt_tokens + self.sampling.max_tokens - 1
