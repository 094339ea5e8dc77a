"""The codecs of `prfaas_kernels.codec`, and digests, over plain memory, for processes that do not load torch."""

from prfaas_kernels.bytes_codec.addresses import address_of
from prfaas_kernels.bytes_codec.digest import SpansDigest
from prfaas_kernels.bytes_codec.errors import CodecError
from prfaas_kernels.bytes_codec.kernels import BytesCodec
from prfaas_kernels.bytes_codec.places import StatePlaces, TokenPlaces
from prfaas_kernels.toolchain import BuildError

__all__ = ["BuildError", "BytesCodec", "CodecError", "SpansDigest", "StatePlaces", "TokenPlaces", "address_of"]
