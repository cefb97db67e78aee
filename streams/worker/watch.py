"""Watches over a worker from beside its partitions: whether Kafka and Redis answer, and what waits where nothing runs.

A partition that waits for an answer says nothing until its client gives up, which takes a minute with some. So both
servers are asked all the time, through connections that nothing else uses.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final

from aiokafka import TopicPartition

from schemas.topics import INPUT_TOPICS, InputTopic
from streams.errors import one_line
from streams.kafka.clients import Consumer
from streams.settings import Settings
from streams.state.keys import PartitionKeys
from streams.state.redis_check import NO_PARTITION
from streams.timeouts import stop_within
from streams.worker.clients import Clients

if TYPE_CHECKING:
    from streams.worker.partition_task import PartitionTask

log = logging.getLogger(__name__)

ASK_EVERY_S: Final = 2.0
ANSWER_WITHIN_S: Final = 4.0
LOST_AFTER_S: Final = 10.0
"""Without an answer for so long, a server is lost."""
STUCK_AFTER_S: Final = 3.0
"""A partition that has failed for so long is told of in Redis: what a rebalance brings about is over by then."""
STUCK_LIVES_S: Final = 15.0
"""How long Redis remembers that, unless it is told again."""
STOPPED_WITHIN_S: Final = 5.0


class Watch:
    """Asks Kafka and Redis for a worker, once it is started; before, nothing is lost and nothing known."""

    def __init__(self, settings: Settings, clients: Clients, tasks: Mapping[int, PartitionTask]) -> None:
        self._settings = settings
        self._clients = clients
        self._tasks = tasks
        self._ends: dict[int, dict[InputTopic, int]] = {}
        self._answered_at_s: dict[str, float] = {}
        self._refusals: dict[str, str] = {}
        self._reader: Consumer | None = None
        self._run: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to ask."""
        now_s = _now_s()
        self._answered_at_s = {"Kafka": now_s, "Redis": now_s}
        self._run = asyncio.create_task(self._ask_for_ever(), name="ebbtide-watch")

    async def stop(self) -> None:
        """Ask no more."""
        if self._run is not None:
            self._run.cancel()
            await asyncio.wait([self._run], timeout=STOPPED_WITHIN_S)
        await self._close_reader()

    @property
    def problem(self) -> str | None:
        """Which server this worker has lost, and what it said last; None where both answer."""
        for server, answered_at_s in self._answered_at_s.items():
            silent_s = _now_s() - answered_at_s
            if silent_s > LOST_AFTER_S:
                said = self._refusals.get(server, "no answer")
                return f"{server} has not answered for {silent_s:.0f} s: {said}"
        return None

    def ends_of(self, partition: int) -> Mapping[InputTopic, int]:
        """The latest known end of each input of a partition, as far as transactions are settled."""
        return self._ends.get(partition, {})

    async def _ask_for_ever(self) -> None:
        while True:
            await asyncio.gather(
                self._ask("Kafka", self._ask_kafka),
                self._ask("Redis", self._ask_redis),
                return_exceptions=True,
            )
            await asyncio.sleep(ASK_EVERY_S)

    async def _ask(self, server: str, question: Callable[[], Awaitable[object]]) -> None:
        """Note that a server answers, or what it says instead."""
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                await question()
        except Exception as error:
            # Whatever it is, the server has not been heard; and the watch goes on.
            self._refusals[server] = f"{type(error).__name__}: {one_line(error)}"
            log.debug("%s does not answer: %s", server, self._refusals[server])
        else:
            self._answered_at_s[server] = _now_s()

    async def _ask_kafka(self) -> None:
        """Ask for the ends of the inputs, of each partition by itself; raise where not even one is told.

        Of a partition without a leader nothing is told, and yet Kafka is there.
        """
        try:
            if self._reader is None:
                self._reader = self._clients.consumer(
                    client_id=f"ebbtide-{self._settings.group_id}-watch",
                    group_id=None,
                    isolation_level="read_committed",
                    enable_auto_commit=False,
                )
                await self._reader.start()
            asked = sorted(self._tasks) or [0]
            answers = await asyncio.gather(*map(self._ask_ends, asked), return_exceptions=True)
            errors = [answer for answer in answers if isinstance(answer, BaseException)]
            if len(errors) == len(asked):
                raise errors[0]
        except BaseException:
            await self._close_reader()
            raise
        for partition, answer in zip(asked, answers, strict=True):
            if not isinstance(answer, BaseException):
                self._ends[partition] = answer

    async def _ask_ends(self, partition: int) -> dict[InputTopic, int]:
        assert self._reader is not None
        tps = {topic: TopicPartition(self._settings.topic(topic), partition) for topic in INPUT_TOPICS}
        async with asyncio.timeout(ANSWER_WITHIN_S * 3 / 4):
            ends = await self._reader.end_offsets(list(tps.values()))
        return {topic: ends[tp] for topic, tp in tps.items()}

    async def _ask_redis(self) -> None:
        """Ask for a write that changes nothing; a read-only Redis answers any other question. Tell it who is stuck."""
        key = PartitionKeys.of(self._settings, NO_PARTITION).base
        await self._clients.redis.execute_command("DEL", key)
        for task in list(self._tasks.values()):
            await task.tell_failing(STUCK_AFTER_S, STUCK_LIVES_S)

    async def _close_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            await stop_within(STOPPED_WITHIN_S, reader)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
