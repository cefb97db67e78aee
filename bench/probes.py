"""How long probes take from the broker's stamp of an order to its change at a consumer that reads committed records."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from confluent_kafka import Consumer, TopicPartition

from bench import broker, load
from bench.root import ROOT
from ebbtide.testing.services.worker import process_environment
from streams.demo.embedded import OwnedProcess
from streams.settings import Settings

CHANGES = "segment-changes"
POLL_S = 0.05
FETCH_WAIT_MS = 10
"""So long a change may lie ready at most before the consumer asks again."""
STOP_S = 60.0


@dataclass
class Latency:
    """Of one probe: its stamp, and how much later its change arrived; infinite where it never did.

    `arrived_s` is by the monotonic clock.
    """

    stamped_ms: float
    latency_ms: float
    arrived_s: float


@dataclass
class Probing:
    """A load and a consumer at work."""

    settings: Settings
    out: Path
    process: OwnedProcess
    arrived: dict[str, tuple[float, float]] = field(default_factory=dict)
    """By probe: (seconds, monotonic; milliseconds since 1970)."""
    other_changes: int = 0
    is_over: threading.Event = field(default_factory=threading.Event)

    def stop(self) -> None:
        """End a load that has no end of its own."""
        with suppress(ProcessLookupError):
            self.process.stop()

    def results(self, timeout_s: float = STOP_S) -> tuple[load.Sent, list[Latency]]:
        """Wait for the load's end and for the changes of all probes, or this long in all."""
        deadline_s = time.monotonic() + timeout_s
        while not self.out.exists():
            assert self.process.is_running() or self.out.exists(), f"load ended:\n{self.process.log_tail()}"
            assert time.monotonic() < deadline_s, f"the load did not end:\n{self.process.log_tail()}"
            time.sleep(POLL_S)
        sent = msgspec.json.decode(self.out.read_bytes(), type=load.Sent)
        while len(self.arrived) < len(sent.stamped_ms) and time.monotonic() < deadline_s:
            time.sleep(POLL_S)
        never = math.inf, math.inf
        latencies = []
        for name, stamped_ms in sent.stamped_ms.items():
            arrived_s, arrived_ms = self.arrived.get(name, never)
            latencies.append(Latency(stamped_ms, arrived_ms - stamped_ms, arrived_s))
        return sent, latencies

    def collect(self, client: Consumer) -> None:
        """Note each probe's first change, until it is over."""
        while not self.is_over.is_set():
            message = client.poll(POLL_S)
            if message is None or message.error() is not None:
                continue
            name = message.key().decode()
            if not name.startswith(load.NAME):
                self.other_changes += 1
            elif name not in self.arrived:
                self.arrived[name] = time.monotonic(), time.time() * 1_000


@contextmanager
def probing(settings: Settings, folder: Path, partitions: int, **options: Any) -> Iterator[Probing]:
    """Send a load with these options of `bench.load`, and collect what comes of its probes."""
    out = folder / "load.json"
    out.unlink(missing_ok=True)
    given = load.arguments({**options, "partitions": partitions, "out": out})
    command = [sys.executable, "-m", "bench.load", *given]
    settings_of_consumer = {"fetch.wait.max.ms": FETCH_WAIT_MS}
    with broker.consumer(settings, f"{settings.group_id}-probes", **settings_of_consumer) as client:
        name, ends = settings.topic(CHANGES), broker.ends(client, settings, (CHANGES,), partitions)
        client.assign([TopicPartition(name, number, end) for number, end in enumerate(ends)])
        environment, log = process_environment(settings), folder / "load.log"
        process = OwnedProcess(
            command, log_path=log, cwd=ROOT, environment=environment, stop_timeout_s=STOP_S
        )
        made = Probing(settings, out, process)
        thread = threading.Thread(target=made.collect, args=(client,), daemon=True)
        thread.start()
        try:
            yield made
        finally:
            made.is_over.set()
            thread.join()
            process.kill()


def percentiles_ms(latencies: Sequence[Latency], *which: float) -> list[float]:
    """These percentiles; NaN where there is no probe."""
    if not latencies:
        return [float("nan")] * len(which)
    found_ms = [one.latency_ms for one in latencies]
    # The next higher one, since between a number and infinity there is none.
    return [float(value) for value in np.percentile(found_ms, which, method="higher")]
