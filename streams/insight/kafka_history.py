"""The history that the input topics hold, as lines of a log: what `calibrate --from-kafka` is fitted to."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

from schemas.topics import INPUT_TOPICS
from streams.insight.in_turn import in_turn
from streams.kafka.log_reader import read_to_end
from streams.replay.log import Line
from streams.settings import Settings


def lines_of_topics(settings: Settings) -> Iterator[Line]:
    """Every committed record of the input topics, up to their present ends; each names its partition and offset.

    Raises:
        EbbtideError: Kafka does not answer, a topic does not exist, or a batch cannot be read.
    """
    return in_turn(_lines(settings))


async def _lines(settings: Settings) -> AsyncGenerator[Line]:
    by_name = {settings.topic(topic): topic for topic in INPUT_TOPICS}
    async with aclosing(read_to_end(settings, INPUT_TOPICS)) as records:
        async for record in records:
            place = f"{record.topic}, partition {record.partition}, offset {record.offset}"
            yield Line(by_name[record.topic], record.value or b"", place, key=record.key)
