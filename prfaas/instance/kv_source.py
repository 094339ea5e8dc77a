"""One object's bytes as the sender reads them, just before they leave. Knows neither peers nor transfers."""

from dataclasses import dataclass

from prfaas.instance.kv_codec import KvCodec
from prfaas.instance.kv_rows import RequestRows
from prfaas.transport.outgoing import Payload
from prfaas.wire.header import Codec, ObjectKey


@dataclass(frozen=True, slots=True)
class RawSource:
    """The rows as they are, where they lie."""

    rows: RequestRows
    key: ObjectKey

    def payload(self, staging: memoryview) -> Payload:  # noqa: ARG002 - sources of all kinds are called alike
        return raw(self.rows, self.key)


@dataclass(frozen=True, slots=True)
class EncodedSource:
    """The rows encoded straight from the pages, or as they are where that has fewer bytes or loses what it must not.

    The same at every call, since encoders are deterministic and the rows do not change.
    """

    codec: Codec
    kernels: KvCodec
    rows: RequestRows
    key: ObjectKey

    def payload(self, staging: memoryview) -> Payload:
        size = self.kernels.encode(self.codec, self.rows, self.key, staging)
        if size is None:
            return raw(self.rows, self.key)
        raw_bytes = (self.key.end - self.key.start) * self.rows.row_bytes(self.key)
        return Payload(self.codec, raw_bytes, (staging[:size],))


def raw(rows: RequestRows, key: ObjectKey) -> Payload:
    """The object as views of the pages."""
    parts = rows.spans(key)
    return Payload(Codec.RAW, sum(part.nbytes for part in parts), parts)
