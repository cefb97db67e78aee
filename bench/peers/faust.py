"""The contender on plain Faust: at least once, one event at a time, with customers in Redis: one GET and one SET each.

    python -m bench.peers.faust --midnight-day 20000 --data DIR

The settings are Ebbtide's, from the environment. One agent reads all three inputs.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import faust
from redis.asyncio import Redis

from bench.per_event import Arrival, PerEvent
from bench.state_codec import redis_key
from schemas.topics import INPUT_TOPICS, InputTopic
from streams.garbage import expect_long_lives
from streams.settings import Settings, load_settings

OUTPUTS = ("segment-changes", "customer-profiles", "reactivation-triggers", "dead-letters")
SESSION_TIMEOUT_S = 180.0
"""The benchmark stops the process for a while, and the group must not notice."""
COMMIT_INTERVAL_S = 0.5
"""Faust's default of 2.8 s would be waited for at the end of the log."""


def make_app(settings: Settings, midnight_day: int, data: Path) -> faust.App:
    """The app with its one agent."""
    brokers = settings.kafka_bootstrap_servers.replace(",", ";")
    app = faust.App(
        settings.group_id,
        broker=f"aiokafka://{brokers}",
        datadir=str(data),
        web_enabled=False,
        topic_disable_leader=True,
        broker_check_crcs=False,
        broker_commit_interval=COMMIT_INTERVAL_S,
        broker_session_timeout=SESSION_TIMEOUT_S,
        broker_request_timeout=SESSION_TIMEOUT_S + 20.0,  # Faust wants it to be longer
        consumer_auto_offset_reset="earliest",
        producer_linger=0.02,
    )
    inputs: dict[str, InputTopic] = {settings.topic(topic): topic for topic in INPUT_TOPICS}
    outputs = {name: _topic(app, settings.topic(name)) for name in OUTPUTS}
    core = PerEvent(settings, midnight_day)
    redis: Any = Redis.from_url(settings.redis_url)

    async def take(stream: Any) -> None:
        async for event in stream.events():
            message = event.message
            partition = message.partition
            key = redis_key(settings.topic_prefix, message.key.decode())
            arrival = Arrival(
                inputs[message.topic],
                partition,
                message.offset,
                message.key,
                message.value,
                int(message.timestamp * 1_000),
            )
            changed, records = core.take(arrival, await redis.get(key))
            if changed is not None:
                await redis.set(key, changed)
            for record in records:
                await outputs[record.topic].send(
                    key=record.key, value=record.value, headers=list(record.headers), partition=partition
                )

    app.agent(_topic(app, *inputs))(take)
    return app


def _topic(app: faust.App, *names: str) -> Any:
    return app.topic(*names, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")


def main() -> None:
    """Run until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--midnight-day", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    expect_long_lives()
    app = make_app(load_settings(), options.midnight_day, options.data)
    faust.Worker(app, loglevel="WARNING", redirect_stdouts=False, quiet=True).execute_from_commandline()


if __name__ == "__main__":
    main()
