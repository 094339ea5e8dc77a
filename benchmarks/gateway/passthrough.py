"""`python -m benchmarks.gateway.passthrough`: the floor, a proxy as one writes it with FastAPI and aiohttp in a minute.

It reads nothing of what it passes on: no model, no tokens, no choice of an instance.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import aiohttp
import typer
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse


def proxy(backend: str) -> FastAPI:
    """Of everything that is posted for chats."""
    sessions: list[aiohttp.ClientSession] = []

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            sessions.append(session)
            yield

    app = FastAPI(lifespan=life)

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        headers = {"content-type": "application/json"}
        answer = await sessions[0].post(f"{backend}/v1/chat/completions", data=await request.body(), headers=headers)
        if answer.content_type == "text/event-stream":
            return StreamingResponse(_parts(answer), answer.status, media_type=answer.content_type)
        async with answer:
            return Response(await answer.read(), answer.status, media_type=answer.content_type)

    return app


async def _parts(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    async with answer:
        async for part in answer.content.iter_any():
            yield part


def main(backend: Annotated[str, typer.Option()], port: Annotated[int, typer.Option()]) -> None:
    """Serves until it is killed."""
    uvicorn.run(proxy(backend), host="127.0.0.1", port=port, access_log=False, log_level="warning")


if __name__ == "__main__":
    typer.run(main)
