"""Topics read from their beginning to where they end now."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Final

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError

from streams.errors import EbbtideError, one_line
from streams.kafka.clients import new_reader
from streams.settings import Settings
from streams.settings.kafka_security import lacks_rights
from streams.timeouts import STOP_TIMEOUT_S, stop_within

TIMEOUT_S: Final = 20.0
"""For connecting, and for the next record."""


async def read_to_end(
    settings: Settings,
    names: Sequence[str],
    first_offsets: Mapping[int, int] | None = None,
    last: int | None = None,
) -> AsyncGenerator[ConsumerRecord, None]:
    """Every record of these topics (names without prefix) up to their present end; within a partition in order.

    Records of unfinished and aborted transactions are left out. Some that came after the end was asked for may be among
    the last. With `first_offsets`, by partition, no other partitions are read, nor what comes before; with `last`,
    nothing before so many offsets from the end.

    Raises:
        EbbtideError: Kafka does not answer, a topic does not exist, a batch cannot be read, or no record comes for
            `TIMEOUT_S` seconds.
    """
    topics = [settings.topic(name) for name in names]
    consumer = new_reader(settings, *topics)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await consumer.start()
            ends = await _ends(consumer, topics)
            if first_offsets is not None:
                ends = _seek(consumer, ends, first_offsets)
            elif last is not None:
                for tp, end in ends.items():
                    consumer.seek(tp, max(end - last, 0))
        heard_s = time.monotonic()
        while ends:
            fetched = await consumer.getmany(*ends, timeout_ms=500)
            for records in fetched.values():
                for record in records:
                    yield record
            for tp in list(ends):
                if await consumer.position(tp) >= ends[tp]:
                    del ends[tp]
            if fetched:
                heard_s = time.monotonic()  # what whoever reads has taken to deal with them is not Kafka's
            elif ends and time.monotonic() - heard_s > TIMEOUT_S:
                raise EbbtideError(f"no record came from {', '.join(topics)} for {TIMEOUT_S:g} s")
    except TopicAuthorizationFailedError as error:
        raise EbbtideError(lacks_rights(settings, f"Read on topic {', '.join(topics)}")) from error
    except (KafkaError, TimeoutError, OSError) as error:
        where = f"{settings.kafka_bootstrap_servers} (setting EBBTIDE_KAFKA_BOOTSTRAP_SERVERS)"
        raise EbbtideError(f"Kafka at {where}: {one_line(error)}") from error
    finally:
        await stop_within(STOP_TIMEOUT_S, consumer)


async def _ends(consumer: Any, topics: Sequence[str]) -> dict[TopicPartition, int]:
    """Where the partitions that hold records end. Without a group, a consumer is assigned all of its topics."""
    partitions: list[TopicPartition] = []
    for topic in topics:
        numbers = consumer.partitions_for_topic(topic)
        if not numbers:
            raise EbbtideError(f"there is no topic {topic}")
        partitions += [TopicPartition(topic, number) for number in sorted(numbers)]
    beginnings = await consumer.beginning_offsets(partitions)
    ends = await consumer.end_offsets(partitions)
    return {tp: ends[tp] for tp in partitions if ends[tp] > beginnings[tp]}


def _seek(
    consumer: Any, ends: dict[TopicPartition, int], first_offsets: Mapping[int, int]
) -> dict[TopicPartition, int]:
    """Begin at these offsets, and fetch from no other partition; gives the ends that are left."""
    consumer.pause(*(tp for tp in ends if tp.partition not in first_offsets))
    left = {tp: end for tp, end in ends.items() if first_offsets.get(tp.partition, end) < end}
    for tp in left:
        consumer.seek(tp, first_offsets[tp.partition])
    return left
