"""Takes the body of one request off its connection, within limits. Does not look into it."""

import asyncio
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request

from prfaas.gateway.errors import ApiError, ClientGoneError

MAX_LENGTH_DIGITS = 19


@dataclass(frozen=True, slots=True)
class BodyReader:
    """`limit_bytes` is the longest body; `timeout_s` bounds the time from its first byte to its last."""

    limit_bytes: int
    timeout_s: float

    async def __call__(self, request: Request) -> bytes:
        """The whole body.

        Raises ApiError 413 as soon as it is known to be too long, 408 when it does not come, 415 when it is compressed.
        """
        encoding = request.headers.get("content-encoding", "identity")
        if encoding != "identity":
            message = f"the body comes with content-encoding {encoding!r}; send it uncompressed"
            raise ApiError(415, message, param="content-encoding", code="unsupported_content_encoding")
        if self._declares_too_much(request.headers.get("content-length", "")):
            raise self._too_large()
        body = bytearray()
        try:
            async with asyncio.timeout(self.timeout_s):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > self.limit_bytes:
                        raise self._too_large()
        except TimeoutError:
            message = f"the body did not arrive within {self.timeout_s:g} s"
            raise ApiError(408, message, code="request_timeout") from None
        except ClientDisconnect:
            raise ClientGoneError("the client left while it sent its request") from None
        return bytes(body)

    def _declares_too_much(self, length: str) -> bool:
        if not (length.isascii() and length.isdigit()):
            return False  # HTTP servers refuse it before it comes here; the body itself is counted anyway
        return len(length) > MAX_LENGTH_DIGITS or int(length) > self.limit_bytes

    def _too_large(self) -> ApiError:
        return ApiError(413, f"the body is longer than {self.limit_bytes} bytes", code="request_too_large")
