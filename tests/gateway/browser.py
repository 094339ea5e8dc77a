"""A real browser without a window, driven over a pipe by the DevTools protocol: JSON messages that end with NUL."""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--remote-debugging-pipe",
)


class Browser:
    """One page of it."""

    def __init__(self, reader: asyncio.StreamReader, write_to: int) -> None:
        self._reader = reader
        self._write_to = write_to
        self._number = 0
        self._session: dict[str, str] = {}
        self.faults: list[str] = []
        """What the page threw, and what its security policy refused."""

    async def open(self, url: str) -> None:
        target = (await self.call("Target.createTarget", url="about:blank"))["targetId"]
        attached = await self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        for part in ("Runtime", "Log", "Page"):
            await self.call(f"{part}.enable")
        await self.call("Page.navigate", url=url)

    async def until(self, expression: str) -> None:
        """Waits until it is true in the page."""
        while not await self.value(expression):  # noqa: ASYNC110 — the page has no event for us
            await asyncio.sleep(0.1)

    async def value(self, expression: str) -> Any:
        result = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return result["result"].get("value")

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params, **self._session}
        os.write(self._write_to, json.dumps(message).encode() + b"\0")
        while True:
            told = json.loads((await self._reader.readuntil(b"\0"))[:-1])
            if told.get("id") == self._number:
                assert "result" in told, told
                return dict(told["result"])
            if told.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.faults.append(json.dumps(told["params"]))


@asynccontextmanager
async def running_browser(profile: Path) -> AsyncIterator[Browser]:
    """Ends it whatever happens. `profile`: a folder of its own."""
    assert CHROMIUM
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()
    command = f'exec "$@" 3<&{to_read} 4>&{from_write}'
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", command, "browser", CHROMIUM, *FLAGS, f"--user-data-dir={profile}"),
        pass_fds=(to_read, from_write),
        stderr=asyncio.subprocess.DEVNULL,
    )
    os.close(to_read)
    os.close(from_write)
    reader = asyncio.StreamReader(limit=1 << 26)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(from_read, "rb")
    )
    try:
        yield Browser(reader, to_write)
    finally:
        transport.close()
        os.close(to_write)
        if process.returncode is None:
            process.kill()
        await process.wait()
