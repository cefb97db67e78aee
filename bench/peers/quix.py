"""The contender on Quix Streams: exactly once, one event at a time, in its own state store (RocksDB and changelog).

    python -m bench.peers.quix --midnight-day 20000 --state DIR --commit-every 2000

The settings are Ebbtide's, from the environment. The three inputs are concatenated, which gives them one state per
customer, and makes Quix take the records in the order of the broker's stamps.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from quixstreams import Application, State, message_context
from quixstreams.models import Serializer, Topic

from bench.per_event import Arrival, PerEvent
from bench.state_codec import STATE_KEY
from schemas.topics import INPUT_TOPICS
from schemas.topics import InputTopic as Input
from streams.garbage import expect_long_lives
from streams.outbox import OutputRecord
from streams.settings import Settings, load_settings

SESSION_TIMEOUT_MS = 180_000
"""The benchmark stops the process for a while, and the group must not notice."""
LONGEST_COMMIT_INTERVAL_S = 30.0
POLL_TIMEOUT_S = 0.02
"""With several topics Quix waits so long for a batch that does not fill; by default a second, much of it in vain."""
OUTPUTS = ("segment-changes", "customer-profiles", "reactivation-triggers", "dead-letters")


class _ValueOf(Serializer):
    """An output record's value."""

    def __call__(self, value: OutputRecord, ctx: Any) -> Any:
        return value.value


def make_application(settings: Settings, state: Path, commit_every: int) -> Application:
    """The application; it commits by number of records, so that it never waits for a clock at the end of the log."""
    return Application(
        broker_address=settings.kafka_bootstrap_servers,
        consumer_group=settings.group_id,
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_every=commit_every,
        commit_interval=LONGEST_COMMIT_INTERVAL_S,
        consumer_poll_timeout=POLL_TIMEOUT_S,
        state_dir=state,
        loglevel="WARNING",
        consumer_extra_config={"session.timeout.ms": SESSION_TIMEOUT_MS},
        broker_availability_timeout=0,  # the process is stopped for a while, not the broker
    )


def build(application: Application, settings: Settings, midnight_day: int) -> None:
    """Inputs → one state per customer → outputs."""
    inputs: dict[str, Input] = {settings.topic(topic): topic for topic in INPUT_TOPICS}
    outputs: dict[str, Topic] = {
        name: application.topic(settings.topic(name), value_serializer=_ValueOf(), key_serializer="bytes")
        for name in OUTPUTS
    }
    core = PerEvent(settings, midnight_day)

    def take(
        value: bytes, key: bytes, timestamp: int, headers: Any, state: State[bytes, bytes]
    ) -> list[OutputRecord]:
        where = message_context()
        arrival = Arrival(inputs[where.topic], where.partition, where.offset, key, value, timestamp)
        changed, records = core.take(arrival, state.get_bytes(STATE_KEY))
        if changed is not None:
            state.set_bytes(STATE_KEY, changed)
        return records

    first, *others = (
        application.dataframe(application.topic(name, value_deserializer="bytes", key_deserializer="bytes"))
        for name in inputs
    )
    frame = first
    for other in others:
        frame = frame.concat(other)
    frame = frame.apply(take, stateful=True, metadata=True, expand=True)
    frame = frame.set_headers(lambda record, key, timestamp, headers: list(record.headers))
    frame.to_topic(lambda record, key, timestamp, headers: outputs[record.topic], lambda record: record.key)


def main() -> None:
    """Run until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--midnight-day", type=int, required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--commit-every", type=int, required=True)
    options = parser.parse_args()
    expect_long_lives()
    settings = load_settings()
    application = make_application(settings, options.state, options.commit_every)
    build(application, settings, options.midnight_day)
    application.run()


if __name__ == "__main__":
    main()
