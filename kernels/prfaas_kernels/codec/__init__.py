"""What is cached, KV or states, in fewer bytes for the wire; the formats are specified in README.md."""

from prfaas_kernels.bytes_codec.errors import CodecError
from prfaas_kernels.bytes_codec.sizes import exact_most_bytes, int8_channel_bytes, int8_token_bytes, state16_bytes
from prfaas_kernels.codec import cpu
from prfaas_kernels.codec.reference import (
    encode_exact_reference,
    encode_int8_channel_reference,
    encode_int8_token_reference,
    encode_state16_reference,
)
from prfaas_kernels.codec.state_span import StateSpan
from prfaas_kernels.codec.token_rows import PageSpan
from prfaas_kernels.dispatch import dispatched

encode_int8_channel = dispatched(cpu.encode_int8_channel)
decode_int8_channel = dispatched(cpu.decode_int8_channel)
encode_int8_token = dispatched(cpu.encode_int8_token)
decode_int8_token = dispatched(cpu.decode_int8_token)
encode_exact = dispatched(cpu.encode_exact)
decode_exact = dispatched(cpu.decode_exact)
encode_state16 = dispatched(cpu.encode_state16)
decode_state16 = dispatched(cpu.decode_state16)

__all__ = [
    "CodecError",
    "PageSpan",
    "StateSpan",
    "decode_exact",
    "decode_int8_channel",
    "decode_int8_token",
    "decode_state16",
    "encode_exact",
    "encode_exact_reference",
    "encode_int8_channel",
    "encode_int8_channel_reference",
    "encode_int8_token",
    "encode_int8_token_reference",
    "encode_state16",
    "encode_state16_reference",
    "exact_most_bytes",
    "int8_channel_bytes",
    "int8_token_bytes",
    "state16_bytes",
]
