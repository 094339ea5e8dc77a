"""The first request of a client, read whole and within limits: bytes in, one request out.

HTTP is parsed by h11. Knows no socket and not what a request means.
"""

import re
from http import HTTPStatus

import h11

MAX_HEADER_BYTES = 8 * 1024
MAX_BODY_BYTES = 8 * 1024

_AUTHORITY = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+)):(?P<port>[0-9]{1,5})")


class RefusedError(Exception):
    """A request that gets an error answer: status and one line of text."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def parse_authority(target: str) -> tuple[str, int]:
    """The host, lower case and without brackets, and the port of a CONNECT target."""
    match = _AUTHORITY.fullmatch(target)
    if match is None or not 0 < int(match["port"]) < 65536:
        raise RefusedError(400, "CONNECT needs host:port with a port from 1 to 65535")
    return (match["v6"] or match["name"]).lower(), int(match["port"])


class RequestReader:
    """Bytes in, one complete request out; sans-IO."""

    def __init__(self) -> None:
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEADER_BYTES)
        self.request: h11.Request | None = None
        self.body = b""
        self._seen_bytes = 0

    def receive(self, data: bytes) -> bool:
        """Takes bytes; True once the request is complete.

        Raises:
            RefusedError: malformed or too long.
        """
        self._seen_bytes += len(data)
        try:
            self._h11.receive_data(data)
            return self._advance()
        except h11.RemoteProtocolError as error:
            raise RefusedError(error.error_status_hint, f"bad request: {error}") from error

    def _advance(self) -> bool:
        while True:
            event = self._h11.next_event()
            if isinstance(event, h11.Request):
                # h11 limits only what is incomplete; one large read may bring a longer header whole.
                if self._seen_bytes - len(self._h11.trailing_data[0]) > MAX_HEADER_BYTES:
                    raise RefusedError(431, f"request header is longer than {MAX_HEADER_BYTES} bytes")
                self.request = event
            elif isinstance(event, h11.Data):
                self.body += event.data
                if len(self.body) > MAX_BODY_BYTES:
                    raise RefusedError(413, f"request body is longer than {MAX_BODY_BYTES} bytes")
            else:
                return isinstance(event, h11.EndOfMessage)

    def answer(self, status: int, body: bytes, content_type: str) -> bytes:
        """The bytes of an answer after which the connection ends."""
        headers = [("Content-Type", content_type), ("Content-Length", str(len(body))), ("Connection", "close")]
        reason = HTTPStatus(status).phrase.encode()
        head = self._h11.send(h11.Response(status_code=status, reason=reason, headers=headers)) or b""
        if self.request is not None and self.request.method == b"HEAD":
            return head
        return head + (self._h11.send(h11.Data(data=body)) or b"")

    def establish(self) -> tuple[bytes, bytes]:
        """The bytes that accept a CONNECT, and what the client sent right behind its request."""
        response = h11.Response(status_code=200, reason=b"Connection established", headers=[])
        return self._h11.send(response) or b"", self._h11.trailing_data[0]
