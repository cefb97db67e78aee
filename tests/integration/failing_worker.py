"""`python -m tests.integration.failing_worker FAULT`: `ebbtide run` with a fault that cannot be had on demand.

The waits that tests would have to wait for are shortened too.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Collection
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import GroupAuthorizationFailedError

from streams.cli.commands import main
from streams.worker import ending, partition_task, watch, worker
from streams.worker.batch_loop import BatchLoop
from streams.worker.clients import RealClients
from streams.worker.worker import Worker

GRACE_S = 3.0
HANGS = "this worker hangs now"


def nothing() -> None:
    """Whatever fails is done from outside."""


def supervisor() -> None:
    """The supervisor ends by an error once the worker is at work."""

    def fail(self: Worker) -> None:
        if self.tasks:
            raise RuntimeError("no")

    _patch(Worker, "_check_partitions", fail)


def membership() -> None:
    """The group turns its member out."""

    async def refuse(*arguments: Any, **more: Any) -> None:
        raise GroupAuthorizationFailedError("no")

    start = Worker.start

    async def start_and_refuse(self: Worker) -> None:
        await start(self)
        _patch(self._member, "getmany", refuse)

    _patch(Worker, "start", start_and_refuse)


def assignor() -> None:
    """The inputs of a partition are given to different members."""
    note = Worker.note_assignment

    def note_some(self: Worker, assigned: Collection[TopicPartition] | None) -> None:
        note(self, assigned and list(assigned)[1:])

    _patch(Worker, "note_assignment", note_some)


def hanging_batch() -> None:
    """A micro-batch waits for what never comes."""

    async def hang(self: BatchLoop) -> None:
        _say_so()
        await asyncio.Event().wait()

    _patch(BatchLoop, "_look_after", hang)


def uncancelled_batch() -> None:
    """A micro-batch waits for what never comes, and its cancellation is lost."""

    async def hang(self: BatchLoop) -> None:
        _say_so()
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue

    _patch(BatchLoop, "_look_after", hang)


def start() -> None:
    """Joining the group waits for what never comes."""

    async def hang(self: Worker) -> None:
        _say_so()
        await asyncio.Event().wait()

    _patch(Worker, "start", hang)


def loop() -> None:
    """The event loop turns no more."""

    async def stick(self: BatchLoop) -> None:
        _say_so()
        while True:
            time.sleep(0.01)

    _patch(BatchLoop, "_look_after", stick)


def thread() -> None:
    """A client that works in a thread of its own never answers."""

    async def hang(self: RealClients, partition: int) -> Any:
        _say_so()
        return await asyncio.to_thread(time.sleep, 3_600)

    _patch(RealClients, "committed_offsets", hang)


def _say_so() -> None:
    print(HANGS, flush=True)


def _patch(where: Any, name: str, instead: Any) -> None:
    setattr(where, name, instead)


FAULTS: dict[str, Callable[[], None]] = {
    fault.__name__: fault
    for fault in (
        nothing,
        supervisor,
        membership,
        assignor,
        start,
        hanging_batch,
        uncancelled_batch,
        loop,
        thread,
    )
}


if __name__ == "__main__":
    for module, name, seconds in (
        (worker, "GRACE_S", 1.0),
        (worker, "CANCELLED_WITHIN_S", 1.0),
        (worker, "PARTITION_CHECK_S", 0.2),
        (worker, "METADATA_MAX_AGE_S", 0.5),
        (partition_task, "LONGEST_BACK_OFF_S", 1.0),
        (partition_task, "RECOVERED_AFTER_S", 0.5),
        (watch, "ASK_EVERY_S", 0.2),
        (watch, "ANSWER_WITHIN_S", 1.5),
        (watch, "LOST_AFTER_S", 3.0),
        (watch, "STUCK_AFTER_S", 0.5),
        (ending, "GRACE_S", GRACE_S + float(sys.argv[1] not in {"loop", "thread"}) * 20.0),
    ):
        _patch(module, name, seconds)
    FAULTS[sys.argv[1]]()
    sys.exit(main(["run"]))
