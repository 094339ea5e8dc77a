from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLE_UNSPECIFIED: _ClassVar[Role]
    ROLE_PREFILL: _ClassVar[Role]
    ROLE_DECODE: _ClassVar[Role]
ROLE_UNSPECIFIED: Role
ROLE_PREFILL: Role
ROLE_DECODE: Role

class InstanceInfo(_message.Message):
    __slots__ = ("instance_id", "cluster", "role", "epoch", "control_address", "data_address", "metrics_address", "model_name", "model_fingerprint", "max_context_tokens", "block_tokens", "kv_events_address", "kv_replay_address", "kv_events_key", "engine")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    CONTROL_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    DATA_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    METRICS_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    MAX_CONTEXT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    BLOCK_TOKENS_FIELD_NUMBER: _ClassVar[int]
    KV_EVENTS_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    KV_REPLAY_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    KV_EVENTS_KEY_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    cluster: str
    role: Role
    epoch: int
    control_address: str
    data_address: str
    metrics_address: str
    model_name: str
    model_fingerprint: str
    max_context_tokens: int
    block_tokens: int
    kv_events_address: str
    kv_replay_address: str
    kv_events_key: str
    engine: str
    def __init__(self, instance_id: _Optional[str] = ..., cluster: _Optional[str] = ..., role: _Optional[_Union[Role, str]] = ..., epoch: _Optional[int] = ..., control_address: _Optional[str] = ..., data_address: _Optional[str] = ..., metrics_address: _Optional[str] = ..., model_name: _Optional[str] = ..., model_fingerprint: _Optional[str] = ..., max_context_tokens: _Optional[int] = ..., block_tokens: _Optional[int] = ..., kv_events_address: _Optional[str] = ..., kv_replay_address: _Optional[str] = ..., kv_events_key: _Optional[str] = ..., engine: _Optional[str] = ...) -> None: ...

class Load(_message.Message):
    __slots__ = ("waiting_requests", "running_requests", "waiting_tokens", "pages_used", "pages_total", "draining", "pages_cached", "converting_to", "role_age_s")
    WAITING_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    RUNNING_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    WAITING_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PAGES_USED_FIELD_NUMBER: _ClassVar[int]
    PAGES_TOTAL_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    PAGES_CACHED_FIELD_NUMBER: _ClassVar[int]
    CONVERTING_TO_FIELD_NUMBER: _ClassVar[int]
    ROLE_AGE_S_FIELD_NUMBER: _ClassVar[int]
    waiting_requests: int
    running_requests: int
    waiting_tokens: int
    pages_used: int
    pages_total: int
    draining: bool
    pages_cached: int
    converting_to: Role
    role_age_s: float
    def __init__(self, waiting_requests: _Optional[int] = ..., running_requests: _Optional[int] = ..., waiting_tokens: _Optional[int] = ..., pages_used: _Optional[int] = ..., pages_total: _Optional[int] = ..., draining: _Optional[bool] = ..., pages_cached: _Optional[int] = ..., converting_to: _Optional[_Union[Role, str]] = ..., role_age_s: _Optional[float] = ...) -> None: ...

class Rates(_message.Message):
    __slots__ = ("prefill_overhead_s", "prefill_per_token_s", "prefill_per_token2_s", "prefill_samples", "decode", "decode_per_context_token_s", "output_tokens")
    PREFILL_OVERHEAD_S_FIELD_NUMBER: _ClassVar[int]
    PREFILL_PER_TOKEN_S_FIELD_NUMBER: _ClassVar[int]
    PREFILL_PER_TOKEN2_S_FIELD_NUMBER: _ClassVar[int]
    PREFILL_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    DECODE_FIELD_NUMBER: _ClassVar[int]
    DECODE_PER_CONTEXT_TOKEN_S_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    prefill_overhead_s: float
    prefill_per_token_s: float
    prefill_per_token2_s: float
    prefill_samples: int
    decode: _containers.RepeatedCompositeFieldContainer[DecodePoint]
    decode_per_context_token_s: float
    output_tokens: float
    def __init__(self, prefill_overhead_s: _Optional[float] = ..., prefill_per_token_s: _Optional[float] = ..., prefill_per_token2_s: _Optional[float] = ..., prefill_samples: _Optional[int] = ..., decode: _Optional[_Iterable[_Union[DecodePoint, _Mapping]]] = ..., decode_per_context_token_s: _Optional[float] = ..., output_tokens: _Optional[float] = ...) -> None: ...

class DecodePoint(_message.Message):
    __slots__ = ("requests", "seconds")
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    requests: int
    seconds: float
    def __init__(self, requests: _Optional[int] = ..., seconds: _Optional[float] = ...) -> None: ...

class RegisterRequest(_message.Message):
    __slots__ = ("instance", "load")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    LOAD_FIELD_NUMBER: _ClassVar[int]
    instance: InstanceInfo
    load: Load
    def __init__(self, instance: _Optional[_Union[InstanceInfo, _Mapping]] = ..., load: _Optional[_Union[Load, _Mapping]] = ...) -> None: ...

class RegisterReply(_message.Message):
    __slots__ = ("heartbeat_interval_s", "kv_follower_key", "routers")
    HEARTBEAT_INTERVAL_S_FIELD_NUMBER: _ClassVar[int]
    KV_FOLLOWER_KEY_FIELD_NUMBER: _ClassVar[int]
    ROUTERS_FIELD_NUMBER: _ClassVar[int]
    heartbeat_interval_s: float
    kv_follower_key: str
    routers: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, heartbeat_interval_s: _Optional[float] = ..., kv_follower_key: _Optional[str] = ..., routers: _Optional[_Iterable[str]] = ...) -> None: ...

class HeartbeatRequest(_message.Message):
    __slots__ = ("instance_id", "epoch", "load", "links", "partial", "rates")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    LOAD_FIELD_NUMBER: _ClassVar[int]
    LINKS_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FIELD_NUMBER: _ClassVar[int]
    RATES_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    epoch: int
    load: Load
    links: _containers.RepeatedCompositeFieldContainer[LinkReport]
    partial: bool
    rates: Rates
    def __init__(self, instance_id: _Optional[str] = ..., epoch: _Optional[int] = ..., load: _Optional[_Union[Load, _Mapping]] = ..., links: _Optional[_Iterable[_Union[LinkReport, _Mapping]]] = ..., partial: _Optional[bool] = ..., rates: _Optional[_Union[Rates, _Mapping]] = ...) -> None: ...

class LinkReport(_message.Message):
    __slots__ = ("cluster", "bytes_per_s", "rtt_s", "min_rtt_s", "retransmitted", "utilisation", "queued_s", "queued_bytes", "streams", "age_s", "at_least")
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    BYTES_PER_S_FIELD_NUMBER: _ClassVar[int]
    RTT_S_FIELD_NUMBER: _ClassVar[int]
    MIN_RTT_S_FIELD_NUMBER: _ClassVar[int]
    RETRANSMITTED_FIELD_NUMBER: _ClassVar[int]
    UTILISATION_FIELD_NUMBER: _ClassVar[int]
    QUEUED_S_FIELD_NUMBER: _ClassVar[int]
    QUEUED_BYTES_FIELD_NUMBER: _ClassVar[int]
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    AGE_S_FIELD_NUMBER: _ClassVar[int]
    AT_LEAST_FIELD_NUMBER: _ClassVar[int]
    cluster: str
    bytes_per_s: float
    rtt_s: float
    min_rtt_s: float
    retransmitted: float
    utilisation: float
    queued_s: float
    queued_bytes: int
    streams: int
    age_s: float
    at_least: bool
    def __init__(self, cluster: _Optional[str] = ..., bytes_per_s: _Optional[float] = ..., rtt_s: _Optional[float] = ..., min_rtt_s: _Optional[float] = ..., retransmitted: _Optional[float] = ..., utilisation: _Optional[float] = ..., queued_s: _Optional[float] = ..., queued_bytes: _Optional[int] = ..., streams: _Optional[int] = ..., age_s: _Optional[float] = ..., at_least: _Optional[bool] = ...) -> None: ...

class HeartbeatReply(_message.Message):
    __slots__ = ("known",)
    KNOWN_FIELD_NUMBER: _ClassVar[int]
    known: bool
    def __init__(self, known: _Optional[bool] = ...) -> None: ...

class DeregisterRequest(_message.Message):
    __slots__ = ("instance_id", "epoch")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    epoch: int
    def __init__(self, instance_id: _Optional[str] = ..., epoch: _Optional[int] = ...) -> None: ...

class DeregisterReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SetRoleRequest(_message.Message):
    __slots__ = ("instance_id", "role")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    role: Role
    def __init__(self, instance_id: _Optional[str] = ..., role: _Optional[_Union[Role, str]] = ...) -> None: ...

class SetRoleReply(_message.Message):
    __slots__ = ("role", "running_requests")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    RUNNING_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    role: Role
    running_requests: int
    def __init__(self, role: _Optional[_Union[Role, str]] = ..., running_requests: _Optional[int] = ...) -> None: ...

class ChangeRoleRequest(_message.Message):
    __slots__ = ("role", "reason", "drain_s", "ordered")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DRAIN_S_FIELD_NUMBER: _ClassVar[int]
    ORDERED_FIELD_NUMBER: _ClassVar[int]
    role: Role
    reason: str
    drain_s: float
    ordered: bool
    def __init__(self, role: _Optional[_Union[Role, str]] = ..., reason: _Optional[str] = ..., drain_s: _Optional[float] = ..., ordered: _Optional[bool] = ...) -> None: ...

class ChangeRoleReply(_message.Message):
    __slots__ = ("accepted", "refusal", "role", "running_requests")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    RUNNING_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    accepted: bool
    refusal: str
    role: Role
    running_requests: int
    def __init__(self, accepted: _Optional[bool] = ..., refusal: _Optional[str] = ..., role: _Optional[_Union[Role, str]] = ..., running_requests: _Optional[int] = ...) -> None: ...

class Sampling(_message.Message):
    __slots__ = ("max_tokens", "temperature", "top_p", "seed", "stop_token_ids", "ignore_eos", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty", "logit_bias", "logprobs", "min_tokens", "grammar")
    class LogitBiasEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: float
        def __init__(self, key: _Optional[int] = ..., value: _Optional[float] = ...) -> None: ...
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    STOP_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    IGNORE_EOS_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    MIN_P_FIELD_NUMBER: _ClassVar[int]
    REPETITION_PENALTY_FIELD_NUMBER: _ClassVar[int]
    PRESENCE_PENALTY_FIELD_NUMBER: _ClassVar[int]
    FREQUENCY_PENALTY_FIELD_NUMBER: _ClassVar[int]
    LOGIT_BIAS_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    MIN_TOKENS_FIELD_NUMBER: _ClassVar[int]
    GRAMMAR_FIELD_NUMBER: _ClassVar[int]
    max_tokens: int
    temperature: float
    top_p: float
    seed: int
    stop_token_ids: _containers.RepeatedScalarFieldContainer[int]
    ignore_eos: bool
    top_k: int
    min_p: float
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    logit_bias: _containers.ScalarMap[int, float]
    logprobs: int
    min_tokens: int
    grammar: Grammar
    def __init__(self, max_tokens: _Optional[int] = ..., temperature: _Optional[float] = ..., top_p: _Optional[float] = ..., seed: _Optional[int] = ..., stop_token_ids: _Optional[_Iterable[int]] = ..., ignore_eos: _Optional[bool] = ..., top_k: _Optional[int] = ..., min_p: _Optional[float] = ..., repetition_penalty: _Optional[float] = ..., presence_penalty: _Optional[float] = ..., frequency_penalty: _Optional[float] = ..., logit_bias: _Optional[_Mapping[int, float]] = ..., logprobs: _Optional[int] = ..., min_tokens: _Optional[int] = ..., grammar: _Optional[_Union[Grammar, _Mapping]] = ...) -> None: ...

class Grammar(_message.Message):
    __slots__ = ("kind", "text")
    KIND_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    kind: str
    text: str
    def __init__(self, kind: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class PrefillTarget(_message.Message):
    __slots__ = ("instance_id", "cluster", "control_address")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    CONTROL_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    cluster: str
    control_address: str
    def __init__(self, instance_id: _Optional[str] = ..., cluster: _Optional[str] = ..., control_address: _Optional[str] = ...) -> None: ...

class GenerateRequest(_message.Message):
    __slots__ = ("request_id", "prompt_token_ids", "sampling", "prefill", "deadline_s", "cache_salt")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    PREFILL_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_S_FIELD_NUMBER: _ClassVar[int]
    CACHE_SALT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    prompt_token_ids: _containers.RepeatedScalarFieldContainer[int]
    sampling: Sampling
    prefill: PrefillTarget
    deadline_s: float
    cache_salt: str
    def __init__(self, request_id: _Optional[str] = ..., prompt_token_ids: _Optional[_Iterable[int]] = ..., sampling: _Optional[_Union[Sampling, _Mapping]] = ..., prefill: _Optional[_Union[PrefillTarget, _Mapping]] = ..., deadline_s: _Optional[float] = ..., cache_salt: _Optional[str] = ...) -> None: ...

class AttendCommands(_message.Message):
    __slots__ = ("commands",)
    COMMANDS_FIELD_NUMBER: _ClassVar[int]
    commands: _containers.RepeatedCompositeFieldContainer[AttendCommand]
    def __init__(self, commands: _Optional[_Iterable[_Union[AttendCommand, _Mapping]]] = ...) -> None: ...

class AttendCommand(_message.Message):
    __slots__ = ("call", "generate", "stop")
    CALL_FIELD_NUMBER: _ClassVar[int]
    GENERATE_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    call: int
    generate: GenerateRequest
    stop: StopCall
    def __init__(self, call: _Optional[int] = ..., generate: _Optional[_Union[GenerateRequest, _Mapping]] = ..., stop: _Optional[_Union[StopCall, _Mapping]] = ...) -> None: ...

class StopCall(_message.Message):
    __slots__ = ("account",)
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    account: bool
    def __init__(self, account: _Optional[bool] = ...) -> None: ...

class AttendEvents(_message.Message):
    __slots__ = ("tokens", "events")
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    tokens: _containers.RepeatedCompositeFieldContainer[CallTokens]
    events: _containers.RepeatedCompositeFieldContainer[CallEvent]
    def __init__(self, tokens: _Optional[_Iterable[_Union[CallTokens, _Mapping]]] = ..., events: _Optional[_Iterable[_Union[CallEvent, _Mapping]]] = ...) -> None: ...

class CallTokens(_message.Message):
    __slots__ = ("call", "token_ids")
    CALL_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    call: int
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, call: _Optional[int] = ..., token_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class CallEvent(_message.Message):
    __slots__ = ("call", "event")
    CALL_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    call: int
    event: GenerateEvent
    def __init__(self, call: _Optional[int] = ..., event: _Optional[_Union[GenerateEvent, _Mapping]] = ...) -> None: ...

class GenerateEvent(_message.Message):
    __slots__ = ("tokens", "finished", "failure")
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    tokens: Tokens
    finished: Finished
    failure: Failure
    def __init__(self, tokens: _Optional[_Union[Tokens, _Mapping]] = ..., finished: _Optional[_Union[Finished, _Mapping]] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ...) -> None: ...

class Tokens(_message.Message):
    __slots__ = ("token_ids", "logprobs")
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    logprobs: _containers.RepeatedCompositeFieldContainer[TokenLogprobs]
    def __init__(self, token_ids: _Optional[_Iterable[int]] = ..., logprobs: _Optional[_Iterable[_Union[TokenLogprobs, _Mapping]]] = ...) -> None: ...

class TokenLogprobs(_message.Message):
    __slots__ = ("logprob", "top_ids", "top_logprobs")
    LOGPROB_FIELD_NUMBER: _ClassVar[int]
    TOP_IDS_FIELD_NUMBER: _ClassVar[int]
    TOP_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    logprob: float
    top_ids: _containers.RepeatedScalarFieldContainer[int]
    top_logprobs: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, logprob: _Optional[float] = ..., top_ids: _Optional[_Iterable[int]] = ..., top_logprobs: _Optional[_Iterable[float]] = ...) -> None: ...

class Finished(_message.Message):
    __slots__ = ("reason", "account")
    REASON_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    reason: str
    account: Account
    def __init__(self, reason: _Optional[str] = ..., account: _Optional[_Union[Account, _Mapping]] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("code", "message", "retryable")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    retryable: bool
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., retryable: _Optional[bool] = ...) -> None: ...

class Account(_message.Message):
    __slots__ = ("prefill_cluster", "prefill_instance", "tokens_computed", "tokens_reused", "kv_bytes_raw", "kv_bytes_wire", "kv_codec", "transfer_ms", "decode_cluster", "decode_instance", "queue_ms", "prefill_ms", "fallback", "tokens_held", "kv_bytes_again", "tokens_verified", "tokens_fetched", "fetched_from")
    PREFILL_CLUSTER_FIELD_NUMBER: _ClassVar[int]
    PREFILL_INSTANCE_FIELD_NUMBER: _ClassVar[int]
    TOKENS_COMPUTED_FIELD_NUMBER: _ClassVar[int]
    TOKENS_REUSED_FIELD_NUMBER: _ClassVar[int]
    KV_BYTES_RAW_FIELD_NUMBER: _ClassVar[int]
    KV_BYTES_WIRE_FIELD_NUMBER: _ClassVar[int]
    KV_CODEC_FIELD_NUMBER: _ClassVar[int]
    TRANSFER_MS_FIELD_NUMBER: _ClassVar[int]
    DECODE_CLUSTER_FIELD_NUMBER: _ClassVar[int]
    DECODE_INSTANCE_FIELD_NUMBER: _ClassVar[int]
    QUEUE_MS_FIELD_NUMBER: _ClassVar[int]
    PREFILL_MS_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_FIELD_NUMBER: _ClassVar[int]
    TOKENS_HELD_FIELD_NUMBER: _ClassVar[int]
    KV_BYTES_AGAIN_FIELD_NUMBER: _ClassVar[int]
    TOKENS_VERIFIED_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FETCHED_FIELD_NUMBER: _ClassVar[int]
    FETCHED_FROM_FIELD_NUMBER: _ClassVar[int]
    prefill_cluster: str
    prefill_instance: str
    tokens_computed: int
    tokens_reused: int
    kv_bytes_raw: int
    kv_bytes_wire: int
    kv_codec: str
    transfer_ms: float
    decode_cluster: str
    decode_instance: str
    queue_ms: float
    prefill_ms: float
    fallback: str
    tokens_held: int
    kv_bytes_again: int
    tokens_verified: int
    tokens_fetched: int
    fetched_from: str
    def __init__(self, prefill_cluster: _Optional[str] = ..., prefill_instance: _Optional[str] = ..., tokens_computed: _Optional[int] = ..., tokens_reused: _Optional[int] = ..., kv_bytes_raw: _Optional[int] = ..., kv_bytes_wire: _Optional[int] = ..., kv_codec: _Optional[str] = ..., transfer_ms: _Optional[float] = ..., decode_cluster: _Optional[str] = ..., decode_instance: _Optional[str] = ..., queue_ms: _Optional[float] = ..., prefill_ms: _Optional[float] = ..., fallback: _Optional[str] = ..., tokens_held: _Optional[int] = ..., kv_bytes_again: _Optional[int] = ..., tokens_verified: _Optional[int] = ..., tokens_fetched: _Optional[int] = ..., fetched_from: _Optional[str] = ...) -> None: ...

class Ticket(_message.Message):
    __slots__ = ("transfer_id", "epoch", "secret", "data_address", "receiver_instance", "receiver_cluster", "max_frame_bytes", "held_tokens", "codecs", "deadline_s")
    TRANSFER_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    DATA_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    RECEIVER_INSTANCE_FIELD_NUMBER: _ClassVar[int]
    RECEIVER_CLUSTER_FIELD_NUMBER: _ClassVar[int]
    MAX_FRAME_BYTES_FIELD_NUMBER: _ClassVar[int]
    HELD_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CODECS_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_S_FIELD_NUMBER: _ClassVar[int]
    transfer_id: bytes
    epoch: int
    secret: bytes
    data_address: str
    receiver_instance: str
    receiver_cluster: str
    max_frame_bytes: int
    held_tokens: int
    codecs: _containers.RepeatedScalarFieldContainer[str]
    deadline_s: float
    def __init__(self, transfer_id: _Optional[bytes] = ..., epoch: _Optional[int] = ..., secret: _Optional[bytes] = ..., data_address: _Optional[str] = ..., receiver_instance: _Optional[str] = ..., receiver_cluster: _Optional[str] = ..., max_frame_bytes: _Optional[int] = ..., held_tokens: _Optional[int] = ..., codecs: _Optional[_Iterable[str]] = ..., deadline_s: _Optional[float] = ...) -> None: ...

class PrefillRequest(_message.Message):
    __slots__ = ("request_id", "prompt_token_ids", "sampling", "ticket", "model_fingerprint", "cache_salt", "resume", "cached_only")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    MODEL_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    CACHE_SALT_FIELD_NUMBER: _ClassVar[int]
    RESUME_FIELD_NUMBER: _ClassVar[int]
    CACHED_ONLY_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    prompt_token_ids: _containers.RepeatedScalarFieldContainer[int]
    sampling: Sampling
    ticket: Ticket
    model_fingerprint: str
    cache_salt: str
    resume: bool
    cached_only: bool
    def __init__(self, request_id: _Optional[str] = ..., prompt_token_ids: _Optional[_Iterable[int]] = ..., sampling: _Optional[_Union[Sampling, _Mapping]] = ..., ticket: _Optional[_Union[Ticket, _Mapping]] = ..., model_fingerprint: _Optional[str] = ..., cache_salt: _Optional[str] = ..., resume: _Optional[bool] = ..., cached_only: _Optional[bool] = ...) -> None: ...

class PrefillEvent(_message.Message):
    __slots__ = ("progress", "done", "failure")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    progress: PrefillProgress
    done: PrefillDone
    failure: Failure
    def __init__(self, progress: _Optional[_Union[PrefillProgress, _Mapping]] = ..., done: _Optional[_Union[PrefillDone, _Mapping]] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ...) -> None: ...

class PrefillProgress(_message.Message):
    __slots__ = ("tokens_done", "moving", "prefilled")
    TOKENS_DONE_FIELD_NUMBER: _ClassVar[int]
    MOVING_FIELD_NUMBER: _ClassVar[int]
    PREFILLED_FIELD_NUMBER: _ClassVar[int]
    tokens_done: int
    moving: bool
    prefilled: bool
    def __init__(self, tokens_done: _Optional[int] = ..., moving: _Optional[bool] = ..., prefilled: _Optional[bool] = ...) -> None: ...

class PrefillDone(_message.Message):
    __slots__ = ("tokens_computed", "queue_ms", "prefill_ms", "kv_bytes_raw", "kv_bytes_wire", "tokens_reused", "tokens_fetched", "fetched_from")
    TOKENS_COMPUTED_FIELD_NUMBER: _ClassVar[int]
    QUEUE_MS_FIELD_NUMBER: _ClassVar[int]
    PREFILL_MS_FIELD_NUMBER: _ClassVar[int]
    KV_BYTES_RAW_FIELD_NUMBER: _ClassVar[int]
    KV_BYTES_WIRE_FIELD_NUMBER: _ClassVar[int]
    TOKENS_REUSED_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FETCHED_FIELD_NUMBER: _ClassVar[int]
    FETCHED_FROM_FIELD_NUMBER: _ClassVar[int]
    tokens_computed: int
    queue_ms: float
    prefill_ms: float
    kv_bytes_raw: int
    kv_bytes_wire: int
    tokens_reused: int
    tokens_fetched: int
    fetched_from: str
    def __init__(self, tokens_computed: _Optional[int] = ..., queue_ms: _Optional[float] = ..., prefill_ms: _Optional[float] = ..., kv_bytes_raw: _Optional[int] = ..., kv_bytes_wire: _Optional[int] = ..., tokens_reused: _Optional[int] = ..., tokens_fetched: _Optional[int] = ..., fetched_from: _Optional[str] = ...) -> None: ...

class CacheSource(_message.Message):
    __slots__ = ("instance_id", "cluster", "control_address", "tokens")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    CONTROL_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    cluster: str
    control_address: str
    tokens: int
    def __init__(self, instance_id: _Optional[str] = ..., cluster: _Optional[str] = ..., control_address: _Optional[str] = ..., tokens: _Optional[int] = ...) -> None: ...

class AnnounceRequest(_message.Message):
    __slots__ = ("request_id", "block_hashes", "source", "prompt_token_ids", "cache_salt")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    BLOCK_HASHES_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    CACHE_SALT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    block_hashes: _containers.RepeatedScalarFieldContainer[bytes]
    source: CacheSource
    prompt_token_ids: _containers.RepeatedScalarFieldContainer[int]
    cache_salt: str
    def __init__(self, request_id: _Optional[str] = ..., block_hashes: _Optional[_Iterable[bytes]] = ..., source: _Optional[_Union[CacheSource, _Mapping]] = ..., prompt_token_ids: _Optional[_Iterable[int]] = ..., cache_salt: _Optional[str] = ...) -> None: ...

class AnnounceReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CancelRequest(_message.Message):
    __slots__ = ("request_id", "transfer_id")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TRANSFER_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    transfer_id: bytes
    def __init__(self, request_id: _Optional[str] = ..., transfer_id: _Optional[bytes] = ...) -> None: ...

class CancelReply(_message.Message):
    __slots__ = ("found",)
    FOUND_FIELD_NUMBER: _ClassVar[int]
    found: bool
    def __init__(self, found: _Optional[bool] = ...) -> None: ...

class DrainRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DrainReply(_message.Message):
    __slots__ = ("running_requests",)
    RUNNING_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    running_requests: int
    def __init__(self, running_requests: _Optional[int] = ...) -> None: ...
