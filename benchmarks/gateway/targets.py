"""What is measured: the gateway with an instance behind it, and its peers before an HTTP backend.

Those that are not installed are named with the reason, and left out.
"""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from benchmarks.gateway.model import NAME
from benchmarks.gateway.servers import Server, ServerError, free_port
from benchmarks.report import progress

OURS, STRAIGHT = "prfaas", "straight"
PASSTHROUGH = "fastapi_passthrough"
SPACING_MS = 10.0

_FLEET = """\
model: {{name: {name}, path: {path}}}
router: {{http: "127.0.0.1:{http}", control: "127.0.0.1:{control}"}}
security: {{mode: plain}}
clusters:
  - {{name: home, kind: pd}}
"""
_RUST_ROUTERS = (
    ("sglang_router", "sglang_router.launch_router", ("--policy=cache_aware", "--log-level=warn")),
    ("sglang_router_round_robin", "sglang_router.launch_router", ("--policy=round_robin", "--log-level=warn")),
    ("vllm_router", "vllm_router.launch_router", ("--policy=cache_aware", "--log-level=warning")),
    ("vllm_router_round_robin", "vllm_router.launch_router", ("--policy=round_robin", "--log-level=warning")),
)
"""Name, module, options. Choosing by the prompt's cached part, as the gateway does, is their default."""


@dataclass(slots=True)
class Targets:
    """Servers by name, `STRAIGHT` the backend itself, and why others are missing. Close it to end all of them."""

    directory: Path
    first_body: bytes
    """Of a chat that a server has to answer to count as ready."""
    servers: dict[str, Server] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    async def start(self, peers_python: str | None) -> None:
        """Raises ServerError when the gateway or the backend do not start: without them there is nothing to measure."""
        await self._ours()
        backend = (sys.executable, "-m", "benchmarks.gateway.backend", "--spacing-ms", str(SPACING_MS))
        straight = await self._start(STRAIGHT, backend)
        await self._passthrough(straight)
        for name, module, options in _RUST_ROUTERS:
            if peers_python is None:
                self._miss(name, "no --peers-python")
            else:
                await self._peer(name, (peers_python, "-m", module, *options, *_to(straight)))

    async def _ours(self) -> None:
        http, control = free_port(), free_port()
        config = self.directory / "fleet.yaml"
        path = self.directory / "model"
        config.write_text(_FLEET.format(name=NAME, path=path, http=http, control=control), encoding="utf-8")
        module = (sys.executable, "-m")
        serve = (*module, "prfaas", "serve", "--role", "router", "--config", str(config), "--log-level", "warning")
        router = self._run(OURS, serve, http)
        arguments = ("--config", str(config), "--spacing-ms", str(SPACING_MS))
        self._run("instance", (*module, "benchmarks.gateway.instance", *arguments), control)
        await router.answers(self.first_body)
        self.servers[OURS] = router

    async def _passthrough(self, straight: Server) -> None:
        if find_spec("aiohttp") is None:
            self._miss(PASSTHROUGH, f"no aiohttp for {sys.executable}")
            return
        command = (sys.executable, "-m", "benchmarks.gateway.passthrough", "--backend", straight.url)
        await self._peer(PASSTHROUGH, command)

    async def _peer(self, name: str, command: Sequence[str]) -> None:
        try:
            await self._start(name, command)
        except ServerError as error:
            self._miss(name, str(error))

    async def _start(self, name: str, command: Sequence[str]) -> Server:
        port = free_port()
        server = self._run(name, (*command, "--port", str(port)), port)
        await server.answers(self.first_body)
        self.servers[name] = server
        return server

    def _run(self, name: str, command: Sequence[str], port: int) -> Server:
        server = Server.start(command, f"http://127.0.0.1:{port}", self.directory / f"{name}.log")
        self._stack.callback(server.close)
        return server

    def _miss(self, name: str, why: str) -> None:
        progress.print(f"without {name}: {why}", markup=False)
        self.missing[name] = why


def _to(backend: Server) -> Sequence[str]:
    """What both Rust routers must be told."""
    return ("--worker-urls", backend.url, "--host", "127.0.0.1", "--prometheus-port", str(free_port()))
