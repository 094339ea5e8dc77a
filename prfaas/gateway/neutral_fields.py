"""Fields of other servers that clients send although they want nothing by them: accepted with that value alone.

Anything else is refused, since leaving it out would answer another question than was asked.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from prfaas.gateway.body import Body, OnlyFalse, OnlyTrue

Zero = Annotated[int, Field(ge=0, le=0)]
One = Annotated[float, Field(ge=1, le=1)]
Empty = Annotated[list[Any], Field(max_length=0)]


class NeutralFields(Body):
    """What both endpoints accept for the sake of clients; nothing reads it."""

    use_beam_search: OnlyFalse | None = None
    early_stopping: OnlyFalse | None = None
    length_penalty: One | None = None
    skip_special_tokens: OnlyTrue | None = None
    spaces_between_special_tokens: bool | None = Field(default=None, description="Special tokens are never shown.")
    include_stop_str_in_output: OnlyFalse | None = None
    detokenize: OnlyTrue | None = None
    bad_words: Empty | None = None
    allowed_token_ids: None = None
    logits_processors: Empty | None = None
    truncate_prompt_tokens: None = None
    prompt_logprobs: None = None
    return_token_ids: OnlyFalse | None = None
    return_tokens_as_token_ids: OnlyFalse | None = None
    priority: Zero | None = None
    kv_transfer_params: None = None
    vllm_xargs: None = None
    guided_json: None = Field(default=None, description="See structured_outputs.")
    guided_regex: None = Field(default=None, description="See structured_outputs.")
    guided_choice: None = Field(default=None, description="See structured_outputs.")
    guided_grammar: None = None
    guided_decoding_backend: None = None


class NeutralChatFields(NeutralFields):
    """What chats accept besides."""

    echo: OnlyFalse | None = None
    add_generation_prompt: OnlyTrue | None = None
    continue_final_message: OnlyFalse | None = None
    add_special_tokens: OnlyFalse | None = None
    chat_template: None = None
    documents: Empty | None = None
    mm_processor_kwargs: None = None
    include_reasoning: OnlyTrue | None = Field(default=None, description="Reasoning is part of the text.")
    functions: Empty | None = None
    function_call: Literal["none", "auto"] | None = None
    reasoning_effort: None = None
    verbosity: None = None
    audio: None = None
    prediction: None = None
    web_search_options: None = None
