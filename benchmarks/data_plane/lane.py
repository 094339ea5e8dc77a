"""One congestion control's pair of processes: the sender, and the receiver that it starts."""

import contextlib
import multiprocessing
import resource
import socket
import time
from multiprocessing.connection import Connection

import msgspec

from benchmarks.data_plane import iperf3, namespace
from benchmarks.data_plane.memory import PROMPT_BYTES, PromptMemory
from benchmarks.data_plane.plain import PlainReceiver, PlainSender, congestion_control
from benchmarks.data_plane.prfaas_plane import PrfaasReceiver, PrfaasSender
from benchmarks.data_plane.rounds import Cost, Receiver, Round, Sender

SPAWN = multiprocessing.get_context("spawn")
STOP = ""


class Lane:
    """The caller's end: asks for rounds, one at a time. `control` None: the system's."""

    def __init__(self, control: str | None, prompts: int) -> None:
        self._line, theirs = SPAWN.Pipe()
        self._process = SPAWN.Process(target=_send, args=(theirs, control, prompts))
        self._process.start()
        theirs.close()
        self.control = self._line.recv_bytes().decode()

    def round(self, peer: str) -> Round:
        """One round of "prfaas", "plain" or "iperf3"."""
        self._line.send_bytes(peer.encode())
        return msgspec.msgpack.decode(self._line.recv_bytes(), type=Round)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # it may have ended by itself, with its reason on stderr
            self._line.send_bytes(STOP.encode())
        self._process.join()


def _send(line: Connection, control: str | None, prompts: int) -> None:
    """The sending process."""
    if control is not None:
        namespace.enter(control)
    actual = _actual_control()
    ours, theirs = SPAWN.Pipe()
    # A daemon, so that it ends with us if we fail.
    receiver = SPAWN.Process(target=_receive, args=(theirs,), daemon=True)
    receiver.start()
    theirs.close()
    memory = PromptMemory(seed=1)
    digest = memory.digest()
    prfaas = PrfaasSender(memory, ours.recv_bytes().decode())
    senders: dict[str, Sender] = {"prfaas": prfaas, "plain": PlainSender(memory, ours.recv_bytes().decode(), actual)}
    line.send_bytes(actual.encode())
    while peer := line.recv_bytes().decode():
        if peer == "iperf3":
            line.send_bytes(msgspec.msgpack.encode(iperf3.run(prompts * PROMPT_BYTES, actual)))
            continue
        ours.send_bytes(f"{peer} {prompts}".encode())
        assert ours.recv_bytes() == b"ready"
        cpu_s, started = _cpu_s(), time.perf_counter()
        steps = senders[peer].send(prompts)
        seconds, cpu_s = time.perf_counter() - started, _cpu_s() - cpu_s
        cost = msgspec.msgpack.decode(ours.recv_bytes(), type=Cost)
        assert peer != "prfaas" or cost.digest == digest, "the receiver's memory is not the sender's"
        done = Round(seconds, prompts * PROMPT_BYTES, cpu_s, cost.cpu_s, steps, cost.steps)
        line.send_bytes(msgspec.msgpack.encode(done))
    ours.send_bytes(STOP.encode())
    receiver.join()


def _receive(line: Connection) -> None:
    """The receiving process."""
    memory = PromptMemory(seed=2)
    receivers: dict[str, Receiver] = {"prfaas": PrfaasReceiver(memory), "plain": PlainReceiver(memory)}
    for receiver in receivers.values():
        line.send_bytes(receiver.address.encode())
    while order := line.recv_bytes().decode():
        peer, prompts = order.split()
        receivers[peer].expect(int(prompts))
        cpu_s = _cpu_s()
        line.send_bytes(b"ready")
        steps = receivers[peer].wait()
        cpu_s = _cpu_s() - cpu_s
        line.send_bytes(msgspec.msgpack.encode(Cost(cpu_s, steps, memory.digest())))


def _cpu_s() -> float:
    """User and system time of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _actual_control() -> str:
    """What a socket gets here that asks for nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as sock:
        return congestion_control(sock)
