"""Whether midnights may pass by this machine's clock: what else tells the time must not contradict it.

1. Redis' `TIME`, asked once a second.
2. Kafka, which stamps what it takes: asked at the start, since clocks that were wrong before it contradict nothing.
3. A clock that nobody can set. It tells how far any clock must have moved since it was asked, so that one that jumps
   is noticed at the next look, also where Redis and Kafka, on the same machine, jump with it.

One that contradicts is enough: who is right cannot be told from here, and a midnight that waits does less harm than
one that demotes everyone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import NamedTuple

from streams.state.redis_client import RedisClient
from streams.worker.publisher import Publisher

log = logging.getLogger(__name__)

ASK_REDIS_EVERY_US = 1_000_000
ASK_KAFKA_AGAIN_AFTER_US = 60_000_000


class ClockCheck:
    """Judges the clock for all partitions of a worker; `problem` is what contradicts it, in words.

    `now_us` is the clock, `elapsed_us` the one that nobody sets. Where only the first is given, the running loop's
    own clock is the second.
    """

    def __init__(
        self,
        max_skew_s: float,
        now_us: Callable[[], int] | None = None,
        elapsed_us: Callable[[], int] | None = None,
    ) -> None:
        self.problem: str | None = None
        self._max_skew_s = max_skew_s
        self._now_us = now_us or wall_clock_us
        self._elapsed_us = elapsed_us or (loop_clock_us if now_us else boot_clock_us)
        self._redis: _Told | None = None
        self._start: _Told | None = None
        self._kafka: _Told | None = None
        self._kafka_asked_us: int | None = None
        self._contradicted_by = ""

    async def trusted_now_us(self, redis: RedisClient, publisher: Publisher) -> int | None:
        """The time, or None where it cannot be trusted; raises what the clients of Redis and Kafka raise."""
        if self._start is None:
            elapsed_us = self._elapsed_us()
            self._start = _Told(self._now_us(), elapsed_us, elapsed_us)
        await self._ask_redis(redis)
        await self._ask_kafka(publisher)
        now_us, elapsed_us = self._now_us(), self._elapsed_us()
        return now_us if self._judge(now_us, elapsed_us) else None

    async def _ask_redis(self, redis: RedisClient) -> None:
        asked_us = self._elapsed_us()
        if self._redis is None or asked_us - self._redis.answered_us >= ASK_REDIS_EVERY_US:
            seconds, micros = await redis.time()
            self._redis = _Told(int(seconds) * 1_000_000 + int(micros), asked_us, self._elapsed_us())

    async def _ask_kafka(self, publisher: Publisher) -> None:
        """Ask once; and again where Kafka's clock was off, and ours has not jumped: it may have been put right."""
        asked_us = self._elapsed_us()
        if self._kafka_asked_us is not None and (
            self._contradicted_by != "Kafka" or asked_us - self._kafka_asked_us < ASK_KAFKA_AGAIN_AFTER_US
        ):
            return
        time_us = await publisher.broker_time_us()
        self._kafka_asked_us = self._elapsed_us()
        if time_us is not None:
            self._kafka = _Told(time_us, asked_us, self._kafka_asked_us)

    def _judge(self, now_us: int, elapsed_us: int) -> bool:
        """Look for a contradiction, and log it when it begins and ends."""
        before = self._contradicted_by
        self._contradicted_by, off_s = self._contradiction(now_us, elapsed_us)
        if not self._contradicted_by:
            self.problem = None
            if before:
                log.warning("the clocks agree again: midnights pass")
            return True
        beyond = f"{off_s:.1f} s, more than EBBTIDE_MAX_CLOCK_SKEW_S={self._max_skew_s:g}: no midnight passes"
        self.problem = {
            "Redis": f"this clock and Redis' differ by {beyond}",
            "Kafka": f"this clock and Kafka's differ by {beyond}",
            "start": f"this clock has jumped by {beyond}; set it right, or restart the worker if it is right now",
        }[self._contradicted_by]
        if before != self._contradicted_by:
            log.error("%s", self.problem)
        return False

    def _contradiction(self, now_us: int, elapsed_us: int) -> tuple[str, float]:
        """Who contradicts, or nobody, and by how many seconds. What Kafka said outweighs our own clock at the start."""
        assert self._redis is not None
        assert self._start is not None
        off_s = self._redis.off_s(now_us, elapsed_us)
        if off_s > self._max_skew_s:
            return "Redis", off_s
        jumped_s = self._start.off_s(now_us, elapsed_us)
        off_s = jumped_s if self._kafka is None else self._kafka.off_s(now_us, elapsed_us)
        if off_s <= self._max_skew_s:
            return "", off_s
        return ("start", jumped_s) if jumped_s > self._max_skew_s else ("Kafka", off_s)


class _Told(NamedTuple):
    """A time that someone told, and when, by the clock that nobody sets, they were asked and had answered."""

    time_us: int
    asked_us: int
    answered_us: int

    def off_s(self, now_us: int, elapsed_us: int) -> float:
        """By how many seconds a clock is off, at the least, if what was told was right."""
        latest_us = self.time_us + elapsed_us - self.asked_us
        earliest_us = self.time_us + elapsed_us - self.answered_us
        return max(now_us - latest_us, earliest_us - now_us, 0) / 1e6


def wall_clock_us() -> int:
    """This machine's clock."""
    return time.time_ns() // 1_000


def boot_clock_us() -> int:
    """Microseconds since the machine was started, also those that it slept where the system counts them."""
    return time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)) // 1_000


def loop_clock_us() -> int:
    """The running event loop's clock, which a simulation may hold."""
    return int(asyncio.get_running_loop().time() * 1e6)
