"""A TCP proxy that can be told to fail as networks do."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from ebbtide.testing.services.ports import lasting_port
from streams.demo.embedded import HOST

_CHUNK_BYTES = 256 * 1024
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_ANSWER_TIMEOUT_S = 10.0
T = TypeVar("T")


class TcpProxy:
    """Forwards connections from a port of its own to another port of 127.0.0.1; runs in a thread of its own.

    Its methods may be called from any thread, and have taken effect when they return.
    """

    def __init__(self, target_port: int) -> None:
        self.port = lasting_port()
        self.answers_withheld = 0
        self._target_port = target_port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy-{self.port}", daemon=True)
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._flows = _flowing()
        self._held: list[asyncio.Event] = []
        self._withhold: Callable[[bytes], bool] | None = None
        self._delay_s = 0.0

    def start(self) -> None:
        """Listen."""

        async def listen() -> None:
            self._server = await asyncio.start_server(self._serve, HOST, self.port)

        self._thread.start()
        asyncio.run_coroutine_threadsafe(listen(), self._loop).result(_ANSWER_TIMEOUT_S)

    def close(self) -> None:
        """Reset all connections, and listen no more."""

        async def end() -> None:
            assert self._server is not None
            self._server.close()
            self._reset_all()
            if ending := asyncio.all_tasks() - {asyncio.current_task()}:
                await asyncio.wait(ending, timeout=_ANSWER_TIMEOUT_S)

        self.release()
        asyncio.run_coroutine_threadsafe(end(), self._loop).result(2 * _ANSWER_TIMEOUT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_ANSWER_TIMEOUT_S)
        self._loop.close()

    def hold(self, *, only_present: bool = False) -> None:
        """Let nothing through, either way, until `release`: nobody is told, as when a network drops packets.

        `only_present` lets connections through that are made from now on.
        """

        def stop() -> None:
            self._flows.clear()
            self._held.append(self._flows)
            if only_present:
                self._flows = _flowing()

        self._call(stop)

    def release(self) -> None:
        """Let everything through again, first what was sent meanwhile, as TCP does once packets get through."""

        def go_on() -> None:
            for held in self._held:
                held.set()
            self._held.clear()

        self._call(go_on)

    def reset(self) -> int:
        """End every connection with a TCP reset; new ones are taken. Gives how many there were."""
        return self._call(self._reset_all)

    def slow_down(self, delay_s: float) -> None:
        """Let each chunk, either way, wait for so long from now on; 0 ends it."""

        def change() -> None:
            self._delay_s = delay_s

        self._call(change)

    def lead_to(self, target_port: int) -> None:
        """Forward to another port from now on, and reset the connections to the one before."""

        def change() -> None:
            self._target_port = target_port
            self._reset_all()

        self._call(change)

    def withhold_answers(self, is_concerned: Callable[[bytes], bool] | None) -> None:
        """Let a concerned request through, and reset its connection where its answer would have come back.

        `is_concerned` sees each chunk that a client sends; None ends it. `answers_withheld` counts the resets. Meant
        for protocols in which a connection waits for the answer before its next request.
        """

        def change() -> None:
            self._withhold = is_concerned

        self._call(change)

    def _call(self, action: Callable[[], T]) -> T:
        async def act() -> T:
            return action()

        return asyncio.run_coroutine_threadsafe(act(), self._loop).result(_ANSWER_TIMEOUT_S)

    def _reset_all(self) -> int:
        present = list(self._connections)
        for connection in present:
            connection.reset()
        return len(present)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(writer, self._flows)
        self._connections.add(connection)
        try:
            await connection.flows.wait()
            to_target = await asyncio.open_connection(HOST, self._target_port)
            connection.add(to_target[1])
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(reader, to_target[1], connection, from_client=True))
                pumps.create_task(self._pump(to_target[0], writer, connection, from_client=False))
        except* OSError:
            pass  # one side is gone: so is the other, below
        finally:
            self._connections.discard(connection)
            connection.reset()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        connection: _Connection,
        *,
        from_client: bool,
    ) -> None:
        while chunk := await reader.read(_CHUNK_BYTES):
            await asyncio.sleep(self._delay_s)
            await connection.flows.wait()
            if from_client and self._withhold is not None and self._withhold(chunk):
                connection.awaits_no_answer = True
            elif not from_client and connection.awaits_no_answer:
                self.answers_withheld += 1
                connection.reset()
                return
            writer.write(chunk)
            await writer.drain()
        await connection.flows.wait()
        with suppress(OSError):
            writer.write_eof()


class _Connection:
    """Both halves of a forwarded connection: to the client, and, once there is one, to the target."""

    def __init__(self, to_client: asyncio.StreamWriter, flows: asyncio.Event) -> None:
        self.writers = [to_client]
        self.flows = flows
        self.awaits_no_answer = False
        self._is_reset = False

    def add(self, to_target: asyncio.StreamWriter) -> None:
        """Note the other half; it ends at once if the first was reset meanwhile."""
        self.writers.append(to_target)
        if self._is_reset:
            self.reset()

    def reset(self) -> None:
        """End both halves with a TCP reset; those that have ended already stay as they are."""
        self._is_reset = True
        for writer in self.writers:
            connected: socket.socket = writer.get_extra_info("socket")
            with suppress(OSError):
                connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            writer.transport.abort()


def _flowing() -> asyncio.Event:
    flows = asyncio.Event()
    flows.set()
    return flows


@contextmanager
def start_proxy(target_port: int) -> Iterator[TcpProxy]:
    """A proxy for the length of the block."""
    proxy = TcpProxy(target_port)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.close()
