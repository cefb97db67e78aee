"""What goes wrong, and when: chosen by the run's generator at requests, where alone a crash makes a difference.

Each run allows some kinds of faults only and makes them more or less likely, so that runs differ from each other more
than chance alone would make them.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from ebbtide.testing.simulation.process import Kind, Process
from enrichment.days import DAY_US

if TYPE_CHECKING:
    from tests.simulation.world import World

HOUR_US = 3_600_000_000
LONGEST_OUTAGE_S = 6.0
WHILE_LOADING = 5
"""A first load is over after few requests: so many times as often something happens to each of them."""


class Faults:
    """The injector of a world; `counts` says what it has done."""

    def __init__(self, rng: random.Random, world: World) -> None:
        self._rng = rng
        self._world = world
        self.counts: Counter[str] = Counter()
        self.is_on = True
        kinds: list[Callable[[Process], None]] = [
            self.kill,
            self.pause,
            self.restart,
            self.join,
            self.lose_redis_writes,
            self.empty_redis,
            self.lose_a_site,
            self.fill_redis,
            self.cut_redis_off,
            self.cut_kafka_off,
            self.spoil_network,
            self.refuse_batches,
            self.turn_clock,
        ]
        self._kinds = rng.sample(kinds, rng.randint(1, len(kinds)))
        often = rng.choice((0.004, 0.012, 0.03))
        self._chances = {Kind.POLL: often / 12, Kind.READ: often, Kind.WRITE: often}

    def before(self, process: Process, kind: Kind, what: str) -> None:
        """Perhaps something happens instead of sending, or before."""
        self._perhaps(process, kind, what)

    def executed(self, process: Process, kind: Kind, what: str) -> None:
        """Perhaps something happens before the answer."""
        self._perhaps(process, kind, what)

    def _perhaps(self, process: Process, kind: Kind, what: str) -> None:
        chance = self._chances[kind] * (WHILE_LOADING if self._world.is_loading else 1)
        if self.is_on and not process.is_dead and self._rng.random() < chance:
            chosen = self._rng.choice(self._kinds)
            name = chosen.__name__
            self._world.note(f"{process.name}: {name} at {what}")
            self.counts[name] += 1
            chosen(process)

    def stop(self) -> None:
        """No more faults; those that last end now."""
        self.is_on = False
        world = self._world
        world.network.lost_request = world.network.lost_answer = world.network.late_request = 0.0
        world.servers.kafka_is_away = world.servers.redis_is_away = False
        world.servers.refused_batch = 0.0
        world.servers.redis_clock_offset_us = 0
        world.redis.is_full = False
        for process in world.processes:
            process.clock_offset_us = 0
            process.resume()

    # ------------------------------------------------------------ processes

    def kill(self, process: Process) -> None:
        """`SIGKILL`; another worker comes after a while."""
        process.kill()
        self._after(self._rng.uniform(0, 4), self._world.start_worker)

    def pause(self, process: Process) -> None:
        """`SIGSTOP`, mostly for longer than the session, then `SIGCONT`: a zombie."""
        process.pause()
        self._after(self._rng.uniform(0.5, 16), process.resume)

    def restart(self, process: Process) -> None:
        """`SIGTERM`, and another worker."""
        self._world.stop_worker(process)
        self._after(self._rng.uniform(0, 2), self._world.start_worker)

    def join(self, process: Process) -> None:
        """One worker more, for a while."""
        if self._world.living() < 3:
            started = self._world.start_worker()
            self._after(self._rng.uniform(3, 20), lambda: self._world.stop_worker(started))

    def turn_clock(self, process: Process) -> None:
        """This machine's clock jumps, for hours or for years; sometimes Redis' does instead."""
        offset_us = self._rng.choice((-1, 1)) * self._rng.choice((2 * HOUR_US, 3 * DAY_US, 400 * DAY_US))
        if self._rng.random() < 0.3:
            self._world.servers.redis_clock_offset_us = offset_us
            self._after(self._rng.uniform(1, 6), self._right_redis)
        else:
            process.clock_offset_us = offset_us
            self._after(self._rng.uniform(1, 10), lambda: setattr(process, "clock_offset_us", 0))

    def _right_redis(self) -> None:
        self._world.servers.redis_clock_offset_us = 0

    # ------------------------------------------------------------ Redis

    def lose_redis_writes(self, process: Process) -> None:
        """A restart from a disk written late, or a replica that lags: the last seconds are gone."""
        now_s = asyncio.get_running_loop().time()
        self._world.redis.lose(now_s - self._rng.choice((self._rng.uniform(0, 1), self._rng.uniform(0, 20))))

    def empty_redis(self, process: Process) -> None:
        """`FLUSHALL`."""
        self._world.redis.flush()

    def lose_a_site(self, process: Process) -> None:
        """Redis' primary is cut off, mostly with a worker: a replica that lags serves, until the primary is back.

        What was written to the replica meanwhile is lost, and what was written to the primary last is there again.
        """
        redis, rng = self._world.redis, self._rng
        of_primary = redis.snapshot()
        redis.lose(asyncio.get_running_loop().time() - rng.uniform(0, 1))
        if rng.random() < 0.7:
            self.kill(process)
        self._after(rng.uniform(1, 16), lambda: redis.restore(of_primary))

    def fill_redis(self, process: Process) -> None:
        """`OOM command not allowed`, for a while."""
        self._world.redis.is_full = True
        self._after(
            self._rng.uniform(0.2, LONGEST_OUTAGE_S), lambda: setattr(self._world.redis, "is_full", False)
        )

    def cut_redis_off(self, process: Process) -> None:
        """Redis answers nobody, for a while."""
        servers = self._world.servers
        servers.redis_is_away = True
        self._after(
            self._rng.uniform(0.2, LONGEST_OUTAGE_S), lambda: setattr(servers, "redis_is_away", False)
        )

    # ------------------------------------------------------------ Kafka and the network

    def cut_kafka_off(self, process: Process) -> None:
        """Kafka answers nobody, for a while."""
        servers = self._world.servers
        servers.kafka_is_away = True
        self._after(
            self._rng.uniform(0.2, 2 * LONGEST_OUTAGE_S), lambda: setattr(servers, "kafka_is_away", False)
        )

    def spoil_network(self, process: Process) -> None:
        """Requests and answers are lost, and some requests come much later than their sender believes."""
        network, rng = self._world.network, self._rng
        network.lost_request, network.lost_answer = rng.uniform(0, 0.2), rng.uniform(0, 0.2)
        network.late_request = rng.uniform(0, 0.2)

        def heal() -> None:
            network.lost_request = network.lost_answer = network.late_request = 0.0

        self._after(rng.uniform(0.5, 8), heal)

    def refuse_batches(self, process: Process) -> None:
        """Brokers do not take some of the batches."""
        servers = self._world.servers
        servers.refused_batch = self._rng.uniform(0.1, 0.6)
        self._after(self._rng.uniform(0.5, 6), lambda: setattr(servers, "refused_batch", 0.0))

    def _after(self, seconds: float, then: Callable[[], object]) -> None:
        def perhaps() -> None:
            if self.is_on:
                then()

        asyncio.get_running_loop().call_later(seconds, perhaps)
