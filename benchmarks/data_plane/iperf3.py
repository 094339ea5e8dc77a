"""iperf3 over loopback with one stream: what the kernel gives without Python."""

import json
import shutil
import socket
import subprocess

from benchmarks.data_plane.rounds import Round

TIMEOUT_S = 60


def installed() -> bool:
    return shutil.which("iperf3") is not None


def run(num_bytes: int, control: str) -> Round:
    """One transfer; iperf3 overwrites one small buffer, so neither end reads or writes page memory."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    server = subprocess.Popen(["iperf3", "-s", "-1", "-p", port, "--forceflush"], stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        while b"listening" not in (line := server.stdout.readline()):
            assert line, "the iperf3 server ended"
        command = ["iperf3", "-c", "127.0.0.1", "-p", port, "-J", "-C", control, "-n", str(num_bytes)]
        client = subprocess.run(command, capture_output=True, check=True, timeout=TIMEOUT_S)
    finally:
        server.kill()
        server.wait()
    end = json.loads(client.stdout)["end"]
    seconds, load = end["sum_received"]["seconds"], end["cpu_utilization_percent"]
    return Round(
        seconds=seconds,
        num_bytes=end["sum_received"]["bytes"],
        sender_cpu_s=load["host_total"] / 100 * seconds,
        receiver_cpu_s=load["remote_total"] / 100 * seconds,
    )
