"""What benchmarks ask of Kafka, with librdkafka's client, which costs too little to slow down what is measured."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from ebbtide.testing.services.worker import Record
from schemas.topics import INPUT_TOPICS, InputTopic
from streams.kafka.topics import TOPICS as DEFINITIONS
from streams.settings import Settings

TIMEOUT_S = 30.0
OUTPUTS = tuple(topic.name for topic in DEFINITIONS if topic.direction == "out")
_QUEUE_RECORDS = 200_000
_NO_COORDINATOR = {
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
}


def producer(settings: Settings, **overrides: Any) -> Producer:
    """A producer that batches for some milliseconds."""
    return Producer(
        {
            "bootstrap.servers": settings.kafka_bootstrap_servers,
            "log_level": 3,
            "linger.ms": 20,
            "acks": "all",
            "queue.buffering.max.messages": 2 * _QUEUE_RECORDS,
            **overrides,
        }
    )


def feed(settings: Settings, records: Iterable[Record]) -> None:
    """Append records in their order, and wait until the broker has all of them.

    Batches are small, so that the broker's stamps tell in which order records of different topics came.
    """
    client = producer(settings)
    failed: list[str] = []

    def note(error: Any, message: Message) -> None:
        if error is not None:
            failed.append(str(error))

    names = {topic: settings.topic(topic) for topic in INPUT_TOPICS}
    for number, (topic, key, value, partition) in enumerate(records):
        client.produce(names[topic], value, key, partition, on_delivery=note)
        if number % 1_000 == 0:
            client.poll(0)
        if len(client) > _QUEUE_RECORDS:
            client.flush(TIMEOUT_S)
    client.flush(TIMEOUT_S)
    assert not failed, failed[0]
    assert len(client) == 0, f"{len(client)} records were not taken within {TIMEOUT_S:g} s"


@contextmanager
def consumer(settings: Settings, group_id: str, **overrides: Any) -> Iterator[Consumer]:
    """A consumer that reads committed records and commits nothing."""
    client = Consumer(
        {
            "bootstrap.servers": settings.kafka_bootstrap_servers,
            "log_level": 3,
            "group.id": group_id,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            **overrides,
        }
    )
    try:
        yield client
    finally:
        client.close()


def ends(client: Consumer, settings: Settings, topics: Sequence[str], partitions: int) -> list[int]:
    """The end offset of every partition of topics, without prefix."""
    places = [
        TopicPartition(settings.topic(topic), number) for topic in topics for number in range(partitions)
    ]
    return [client.get_watermark_offsets(place, timeout=TIMEOUT_S)[1] for place in places]


def values(settings: Settings, topic: str, partitions: int) -> Iterator[Message]:
    """Every committed record of one of Ebbtide's topics up to its present end."""
    return values_of(settings, settings.topic(topic), partitions)


def values_of(settings: Settings, name: str, partitions: int) -> Iterator[Message]:
    """The same of any topic by its full name; those without a value are included."""
    with consumer(settings, f"{settings.group_id}-reader", **{"enable.partition.eof": True}) as client:
        client.assign([TopicPartition(name, number, 0) for number in range(partitions)])
        ended: set[int] = set()
        deadline_s = time.monotonic() + TIMEOUT_S
        while len(ended) < partitions:
            assert time.monotonic() < deadline_s, f"{name} did not come to its end"
            for message in client.consume(5_000, 0.2):
                deadline_s = time.monotonic() + TIMEOUT_S
                if message.error() is None:
                    yield message
                else:
                    ended.add(message.partition())


def committed(client: Consumer, settings: Settings, partitions: int) -> dict[tuple[InputTopic, int], int]:
    """What the consumer's group has committed of the inputs; 0 where it has committed nothing.

    Empty while nobody coordinates the group yet, as on a broker that has just been started.
    """
    topics: dict[str, InputTopic] = {settings.topic(topic): topic for topic in INPUT_TOPICS}
    places = [TopicPartition(name, number) for name in topics for number in range(partitions)]
    try:
        found = client.committed(places, timeout=TIMEOUT_S)
    except KafkaException as error:
        if error.args[0].code() in _NO_COORDINATOR:
            return {}
        raise
    return {(topics[place.topic], place.partition): max(place.offset, 0) for place in found}


def delete_topics(settings: Settings) -> None:
    """Delete every topic of these settings' prefix, whoever made it: disks are small."""
    assert settings.topic_prefix, "topics without a prefix may be anyone's"
    client, names = _admin(settings), topic_names(settings)
    for deleted in client.delete_topics(names, operation_timeout=TIMEOUT_S).values() if names else ():
        deleted.result()


def topic_names(settings: Settings) -> list[str]:
    """The full names of all topics with these settings' prefix in them, those of other contenders' state too."""
    return [
        name
        for name in _admin(settings).list_topics(timeout=TIMEOUT_S).topics
        if settings.topic_prefix in name
    ]


def _admin(settings: Settings) -> AdminClient:
    return AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers, "log_level": 3})
