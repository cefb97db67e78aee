"""An endpoint of another tool's, on this machine, that fails as it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
from aiohttp import web

Answer = Callable[[int, bytes], web.Response | Awaitable[web.Response]]
"""What is answered to the nth request with this body; it counts as taken where the answer is 2xx."""


class Endpoint:
    """`taken` are the requests that were taken, as (headers, body)."""

    def __init__(self, answer: Answer) -> None:
        self.url = ""
        self.requests = 0
        self.taken: list[tuple[dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        self.answer = answer

    async def take(self, request: web.Request) -> web.Response:
        """Note the request, and answer it."""
        body = await request.read()
        number, self.requests = self.requests, self.requests + 1
        made = self.answer(number, body)
        answered = made if isinstance(made, web.Response) else await made
        self.statuses.append(answered.status)
        if 200 <= answered.status < 300:
            self.taken.append(({name.lower(): value for name, value in request.headers.items()}, body))
        return answered

    @property
    def messages(self) -> list[dict[str, Any]]:
        """Of a Segment endpoint: the messages in the order in which they were taken."""
        return [message for _, body in self.taken for message in orjson.loads(body)["batch"]]


def well(number: int, body: bytes) -> web.Response:
    """Take everything."""
    return web.json_response({"success": True})


def in_turn(*statuses: int, **headers: str) -> Answer:
    """These statuses, one request after the other, and then 200."""

    def answer(number: int, body: bytes) -> web.Response:
        status = statuses[number] if number < len(statuses) else 200
        return web.Response(status=status, text="so it is", headers=headers if status != 200 else {})

    return answer


def late(seconds: float, times: int = 1) -> Answer:
    """Take the first requests, and answer too late."""

    async def answer(number: int, body: bytes) -> web.Response:
        if number < times:
            await asyncio.sleep(seconds)
        return web.json_response({"success": True})

    return answer


@asynccontextmanager
async def endpoint(answer: Answer = well) -> AsyncIterator[Endpoint]:
    """An endpoint on a free port for the length of the block."""
    made = Endpoint(answer)
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/{tail:.*}", made.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        host, port = runner.addresses[0][:2]
        made.url = f"http://{host}:{port}/v1/batch"
        yield made
    finally:
        await runner.cleanup()
