"""Who may connect under TLS, and how everybody else is told: typed errors, at once, on both ends."""

import socket
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from prfaas.cli.authority import Authority
from prfaas.core.errors import PeerLostError, PeerRefusedError
from prfaas.transport.channel import Channel
from prfaas.transport.secure import secure
from tests.control.issued import FLEET, NOW, Party, expired, issue, new_authority, not_yet_valid, party
from tests.transport.tls_rig import connected, secured, shake_hands

AUTHORITY = new_authority()


def read(channel: Channel, count: int) -> bytes:
    """`count` bytes that are on their way."""
    buffer = memoryview(bytearray(count))
    have = 0
    while have < count:
        got = channel.receive_into([buffer[have:]])
        assert got != 0, "the end"
        have += got or 0
    return bytes(buffer)


def test_two_of_a_fleet_understand_each_other(tmp_path: Path) -> None:
    one, two = party(tmp_path, AUTHORITY), party(tmp_path, AUTHORITY)
    with connected(one.credentials, two.credentials) as (server, client):
        assert server.encrypted
        assert client.send([memoryview(b"he"), memoryview(b"llo")]) == 5
        assert read(server, 5) == b"hello"
        assert server.send([memoryview(b"yes")]) == 3
        assert read(client, 3) == b"yes"
        assert client.receive_into([memoryview(bytearray(9))]) is None
        server.close()
        assert client.receive_into([memoryview(bytearray(9))]) == 0
    assert (one.notes, two.notes) == ([], [])


def test_the_authority_of_another_fleet_is_refused_by_both(tmp_path: Path) -> None:
    one, stranger = party(tmp_path, AUTHORITY), party(tmp_path, new_authority())
    server, client = shake_hands(one.credentials, stranger.credentials)
    assert isinstance(client, PeerRefusedError)
    assert "its certificate was not accepted" in str(client)
    # The client left first, and told why.
    assert isinstance(server, PeerRefusedError)
    assert "refuses our certificate" in str(server)
    assert (one.notes, stranger.notes) == (["data_refused"], ["data_refused"])


def trusting(tmp_path: Path, trusted: Authority, own: Authority) -> Party:
    """Accepts what `trusted` issued, and shows what `own` did."""
    files = issue(tmp_path, own)
    files.ca.write_bytes(trusted.pems()[0] + own.pems()[0])
    return Party(files, own)


def test_a_client_hears_that_the_server_does_not_know_its_authority(tmp_path: Path) -> None:
    one = party(tmp_path, AUTHORITY)
    server, client = shake_hands(one.credentials, trusting(tmp_path, AUTHORITY, new_authority()).credentials)
    assert isinstance(server, PeerRefusedError)
    assert "issued by the authority in this process's security.ca" in str(server)
    assert isinstance(client, PeerRefusedError)
    assert "refuses our certificate" in str(client)


def test_an_expired_certificate_is_refused_on_either_side(tmp_path: Path) -> None:
    one = party(tmp_path, AUTHORITY)
    server, client = shake_hands(one.credentials, expired(tmp_path, AUTHORITY).credentials)
    assert isinstance(server, PeerRefusedError)
    assert "certificate has expired" in str(server)
    assert isinstance(client, PeerRefusedError)
    server, client = shake_hands(expired(tmp_path, AUTHORITY).credentials, one.credentials)
    assert isinstance(client, PeerRefusedError)
    assert "certificate has expired" in str(client)
    assert isinstance(server, PeerRefusedError)


def test_a_certificate_that_is_not_valid_yet_is_refused(tmp_path: Path) -> None:
    one = party(tmp_path, AUTHORITY)
    server, client = shake_hands(one.credentials, not_yet_valid(tmp_path, AUTHORITY).credentials)
    assert isinstance(server, PeerRefusedError)
    assert "not yet valid" in str(server)
    assert isinstance(client, PeerRefusedError)


def test_a_certificate_without_the_fleets_name_is_refused_and_told_so(tmp_path: Path) -> None:
    one = party(tmp_path, AUTHORITY)
    other = Party(issue(tmp_path, AUTHORITY, fleet_name="other.internal"), AUTHORITY, "other.internal")
    server, client = shake_hands(one.credentials, other.credentials)
    assert isinstance(server, PeerRefusedError)
    assert isinstance(client, PeerRefusedError)
    assert f"for a.west.prfaas.internal, other.internal, does not carry the fleet's name {FLEET}" in str(server)


def test_a_name_that_is_not_allowed_is_refused_and_told_so(tmp_path: Path) -> None:
    picky, two = party(tmp_path, AUTHORITY, ("*.east.prfaas.internal",)), party(tmp_path, AUTHORITY)
    server, client = shake_hands(picky.credentials, two.credentials)
    said = "for a.west.prfaas.internal, matches none of security.allowed_names (*.east.prfaas.internal)"
    assert isinstance(server, PeerRefusedError)
    assert said in str(server)
    assert isinstance(client, PeerRefusedError)
    assert f"the peer refuses us: its certificate, {said}" in str(client)
    server, client = shake_hands(two.credentials, picky.credentials)
    assert isinstance(client, PeerRefusedError)
    assert said in str(client)
    assert isinstance(server, PeerRefusedError)
    assert "the peer refuses us" in str(server)
    assert (picky.notes, two.notes) == (["data_refused"] * 2, ["data_refused"] * 2)


def foreign_client(trusted: Authority) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=trusted.pems()[0].decode())
    return context


def attempt(sock: socket.socket, context: ssl.SSLContext) -> str:
    """What a client that is not ours is told."""
    try:
        with context.wrap_socket(sock, server_hostname=FLEET) as tls:
            return repr(tls.recv(1))
    except OSError as error:
        return str(error)


def test_a_client_without_a_certificate_is_refused(tmp_path: Path) -> None:
    near, far = socket.socketpair()
    with ThreadPoolExecutor() as pool:
        serving = pool.submit(secured, near, party(tmp_path, AUTHORITY).credentials, server_side=True)
        said = attempt(far, foreign_client(AUTHORITY))
        outcome = serving.result()
    assert "certificate required" in said
    assert isinstance(outcome, PeerRefusedError)
    assert "shows no certificate" in str(outcome)


def test_tls_1_2_is_refused(tmp_path: Path) -> None:
    one = party(tmp_path, AUTHORITY)
    old = foreign_client(AUTHORITY)
    old.load_cert_chain(one.files.cert, one.files.key)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    near, far = socket.socketpair()
    with ThreadPoolExecutor() as pool:
        serving = pool.submit(secured, near, one.credentials, server_side=True)
        said = attempt(far, old)
        outcome = serving.result()
    assert "protocol version" in said
    assert isinstance(outcome, PeerLostError)
    assert "no TLS 1.3 handshake with the peer (UNSUPPORTED_PROTOCOL)" in str(outcome)


def test_a_plain_client_of_a_tls_port_is_lost_at_once(tmp_path: Path) -> None:
    near, far = socket.socketpair()
    far.sendall(b"PRFA" + bytes(124))
    outcome = secured(near, party(tmp_path, AUTHORITY).credentials, server_side=True)
    assert isinstance(outcome, PeerLostError)
    assert "no TLS 1.3 handshake" in str(outcome)
    with far, pytest.raises(BrokenPipeError):
        far.sendall(b"is anybody there?")


@pytest.mark.parametrize("answer", [b"", b"PRFA" + bytes(124)])
def test_a_tls_client_of_a_plain_port_is_lost_at_once(tmp_path: Path, answer: bytes) -> None:
    near, far = socket.socketpair()
    near.sendall(answer)
    near.shutdown(socket.SHUT_WR)
    outcome = secured(far, party(tmp_path, AUTHORITY).credentials, server_side=False)
    near.close()
    assert isinstance(outcome, PeerLostError)
    assert "mtls too?" in str(outcome)


@pytest.mark.parametrize("server_side", [False, True])
def test_a_silent_peer_is_lost_after_the_time_allowed(tmp_path: Path, server_side: bool) -> None:
    near, far = socket.socketpair()
    one = party(tmp_path, AUTHORITY)
    outcome = secured(near, one.credentials, server_side=server_side, timeout_s=0.05)
    assert isinstance(outcome, PeerLostError)
    assert "within 0.05 s" in str(outcome)
    far.close()


@pytest.mark.parametrize("server_side", [False, True])
def test_a_peer_that_sends_a_byte_now_and_then_gets_no_more_time(tmp_path: Path, server_side: bool) -> None:
    near, far = socket.socketpair()
    over = threading.Event()

    def drip() -> None:
        far.sendall(bytes([22, 3, 3, 0x40, 0]))  # a record of the handshake, of 16 KiB
        while not over.wait(0.01):
            far.sendall(bytes(1))

    with far, ThreadPoolExecutor() as pool:
        dripping = pool.submit(drip)
        outcome = secured(near, party(tmp_path, AUTHORITY).credentials, server_side=server_side, timeout_s=0.1)
        over.set()
        assert isinstance(dripping.exception(), BrokenPipeError | ConnectionResetError | None)
    assert isinstance(outcome, PeerLostError)
    assert "within 0.1 s" in str(outcome)


def test_a_certificate_whose_names_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(_: object) -> list[str]:
        raise ValueError("two extensions of one kind")

    monkeypatch.setattr("prfaas.transport.secure.dns_names", unreadable)
    one = party(tmp_path, AUTHORITY)
    for outcome in shake_hands(one.credentials, one.credentials):
        assert isinstance(outcome, PeerRefusedError)
        assert "cannot be read: two extensions of one kind" in str(outcome)


def test_without_credentials_a_channel_is_plain() -> None:
    near, far = socket.socketpair()
    channel = secure(near, None, server_side=True, timeout_s=1.0, peer="p")
    assert not channel.encrypted
    assert channel.send([memoryview(b"x")]) == 1
    assert far.recv(9) == b"x"
    channel.close()
    far.close()


def test_newer_certificates_are_for_new_connections(tmp_path: Path) -> None:
    one, two = party(tmp_path, AUTHORITY), party(tmp_path, AUTHORITY)
    with connected(one.credentials, two.credentials) as (server, client):
        one.renew()
        one.later()
        with connected(one.credentials, two.credentials) as (_, second):
            shown = second._tls.getpeercert()  # type: ignore[attr-defined]
            assert shown["notAfter"] == f"{NOW + timedelta(days=7):%b %e %H:%M:%S %Y} GMT"
        assert client.send([memoryview(b"still here")]) == 10
        assert read(server, 10) == b"still here"
    assert one.notes == ["reloaded"]
