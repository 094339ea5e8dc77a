"""The codec on a GPU; a program per block, group or row, whether it lies dense or in pages."""

from prfaas_kernels.codec.triton_exact_decode import decode_exact
from prfaas_kernels.codec.triton_exact_encode import encode_exact
from prfaas_kernels.codec.triton_int8 import (
    decode_int8_channel,
    decode_int8_token,
    encode_int8_channel,
    encode_int8_token,
)
from prfaas_kernels.codec.triton_state16 import decode_state16, encode_state16

__all__ = [
    "decode_exact",
    "decode_int8_channel",
    "decode_int8_token",
    "decode_state16",
    "encode_exact",
    "encode_int8_channel",
    "encode_int8_token",
    "encode_state16",
]
