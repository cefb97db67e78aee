"""Who is measured: how each is started, and how it says how far it has come."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
import redis
from confluent_kafka import Consumer

from bench import broker
from bench.peers import kafka_streams as kafka_streams_peer
from schemas.topics import INPUT_TOPICS, InputTopic
from streams.settings import Settings
from streams.state.keys import PartitionKeys

Progress = dict[tuple[InputTopic, int], int]
"""The next offset to be taken, by input and partition."""


@dataclass(frozen=True)
class Start:
    """What a contender may be told when it starts."""

    settings: Settings
    folder: Path
    midnight_day: int
    commit_every: int
    """Records per commit, for who commits by number."""


@dataclass(frozen=True)
class Contender:
    """One way to do the work. `settings` are given to it in its environment; `processes` of it share the work."""

    name: str
    command: Callable[[Start], list[str]]
    settings: Mapping[str, Any] = field(default_factory=dict)
    progress: Literal["group", "redis"] = "group"
    processes: int = 1
    tells_readiness: bool = False
    """By `/readyz`."""

    def progress_of(self, settings: Settings, partitions: int, client: Consumer) -> Progress:
        """How far it has come, by its group's offsets (`client` is of the group) or by what it keeps in Redis."""
        if self.progress == "group":
            return broker.committed(client, settings, partitions)
        return _checkpoints(settings, partitions)


def ebbtide(guarantee: str, processes: int = 1, **settings: Any) -> Contender:
    """The real worker."""
    chosen = {"processing_guarantee": guarantee, "session_timeout_s": 180.0, **settings}
    progress: Literal["group", "redis"] = "group" if guarantee == "exactly_once" else "redis"
    return Contender(f"ebbtide {guarantee}", _worker, chosen, progress, processes, tells_readiness=True)


def quix() -> Contender:
    """Quix Streams, exactly once."""
    return Contender("quix exactly_once", _quix)


def kafka_streams(bytes_per_event: int = 0) -> Contender:
    """Kafka Streams with a simple model, exactly once; writing at least so many bytes per event."""
    name = f"kafka streams, {bytes_per_event:,} B per event" if bytes_per_event else "kafka streams, RFM"
    return Contender(
        name, lambda start: kafka_streams_peer.command(start.settings, start.folder, bytes_per_event)
    )


def faust() -> Contender:
    """A plain Faust agent, at least once."""
    return Contender("faust at_least_once", _faust)


def _worker(start: Start) -> list[str]:
    return [sys.executable, "-m", "streams", "run"]


def _quix(start: Start) -> list[str]:
    options = ["--midnight-day", str(start.midnight_day), "--commit-every", str(start.commit_every)]
    return [sys.executable, "-m", "bench.peers.quix", *options, "--state", str(start.folder / "state")]


def _faust(start: Start) -> list[str]:
    options = ["--midnight-day", str(start.midnight_day), "--data", str(start.folder / "data")]
    return [sys.executable, "-m", "bench.peers.faust", *options]


def _checkpoints(settings: Settings, partitions: int) -> Progress:
    """By the checkpoints that a worker persists before it publishes; all zero where it has not begun."""
    with redis.Redis.from_url(settings.redis_url) as client:
        asked = client.pipeline(transaction=False)
        for partition in range(partitions):
            asked.hget(PartitionKeys.of(settings, partition).meta, "offsets")
        answers = asked.execute()
    progress: Progress = {}
    for partition, answer in enumerate(answers):
        offsets = msgspec.json.decode(answer, type=dict[InputTopic, int]) if answer else {}
        progress.update({(topic, partition): offsets.get(topic, 0) for topic in INPUT_TOPICS})
    return progress
