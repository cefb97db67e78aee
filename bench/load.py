"""A steady load, from a process of its own: records of the workload, and among them probes that surely cause a change.

    python -m bench.load --per-s 1000 --probes-per-s 100 --seconds 30 --out FILE

A probe is the first order of a new customer. The file gets what the broker stamped each probe with, and how many
records were sent in how many seconds; it appears when all have been taken. SIGTERM ends a load that is given no
seconds. The settings are Ebbtide's, from the environment.
"""

from __future__ import annotations

import argparse
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path
from typing import Any

import orjson
from confluent_kafka import Message, Producer

from bench import broker
from bench.workload import Shape, make_workload
from ebbtide.testing.services.worker import Record, partition_of
from enrichment.days import day_of
from streams.settings import Settings, load_settings
from streams.worker.clock_check import wall_clock_us

TICK_S = 0.002
LINGER_MS = 2
NAME = "probe-"


@dataclass
class Sent:
    """What was sent; stamps are milliseconds since 1970, by the probe's customer."""

    stamped_ms: dict[str, int] = field(default_factory=dict)
    records: int = 0
    seconds: float = 0.0
    most_late_ms: float = 0.0
    """How far the load has been behind its schedule at most."""


class Load:
    """Sends on schedule until told to stop."""

    def __init__(self, settings: Settings, options: argparse.Namespace) -> None:
        self.sent = Sent()
        self.is_stopped = False
        self._settings = settings
        self._options = options
        self._background = cycle(background(options))
        self._probes = 0
        self._producer: Producer = broker.producer(settings, **{"linger.ms": LINGER_MS})

    def run(self) -> None:
        """Send; every so many records one is a probe."""
        per_s, seconds = self._options.per_s, self._options.seconds
        began_s = time.monotonic()
        while not self.is_stopped and (seconds is None or time.monotonic() < began_s + seconds):
            now_s = time.monotonic() - began_s
            due = int(now_s * per_s)
            self.sent.most_late_ms = max(self.sent.most_late_ms, (now_s - self.sent.records / per_s) * 1_000)
            while self.sent.records < due:
                self._send_next()
            self._producer.poll(0)
            time.sleep(TICK_S)
        self.sent.seconds = time.monotonic() - began_s
        assert self._producer.flush(broker.TIMEOUT_S) == 0, "the broker did not take everything"

    def _send_next(self) -> None:
        """A probe where one is due, else a record of the background."""
        self.sent.records += 1
        is_probe = self.sent.records * self._options.probes_per_s // self._options.per_s > self._probes
        topic, key, value, partition = self._probe() if is_probe else next(self._background)
        noted: dict[str, Any] = {"on_delivery": self._note} if is_probe else {}
        self._producer.produce(self._settings.topic(topic), value, key, partition, **noted)

    def _probe(self) -> Record:
        name = f"{NAME}{self._probes:08d}"
        self._probes += 1
        document = {
            "event_id": name,
            "customer_id": name,
            "occurred_at": datetime.now(UTC).isoformat(),
            "kind": "order",
            "order_id": name,
            "currency": "USD",
            "total": "20.00",
        }
        key = name.encode()
        return Record("purchases", key, orjson.dumps(document), partition_of(key, self._options.partitions))

    def _note(self, error: Any, message: Message) -> None:
        assert error is None, error
        self.sent.stamped_ms[message.key().decode()] = message.timestamp()[1]


def background(options: argparse.Namespace) -> list[Record]:
    """The records between the probes: as many as are needed, or none."""
    count = int((options.per_s - options.probes_per_s) * (options.seconds or 0))
    if count == 0:
        return []
    shape = Shape(count, options.customers, options.seed, day_of(wall_clock_us()), options.partitions)
    return make_workload(shape)


def arguments(options: dict[str, Any]) -> Iterator[str]:
    """These options as this program's command line."""
    for name, value in options.items():
        if value is not None:
            yield from (f"--{name.replace('_', '-')}", str(value))


def main() -> None:
    """Send and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--per-s", type=float, required=True)
    parser.add_argument("--probes-per-s", type=float, required=True)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--customers", type=int, default=100_000)
    parser.add_argument("--partitions", type=int, default=8)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    load = Load(load_settings(), options)

    def stop(number: int, frame: object) -> None:
        load.is_stopped = True

    signal.signal(signal.SIGTERM, stop)
    load.run()
    part = options.out.with_suffix(".part")
    part.write_bytes(orjson.dumps(load.sent))
    part.replace(options.out)


if __name__ == "__main__":
    main()
