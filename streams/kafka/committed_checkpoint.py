"""A checkpoint in Kafka: the group's committed offsets of one partition, which carry it as their metadata."""

from __future__ import annotations

import msgspec
from aiokafka import TopicPartition
from aiokafka.structs import OffsetAndMetadata

from schemas.topics import INPUT_TOPICS
from streams.checkpoint import Checkpoint, FirstLoad
from streams.kafka.clients import CommittedOffsets
from streams.kafka.size_limits import StoppedError
from streams.settings import Settings


class _Metadata(msgspec.Struct):
    batch_id: int = msgspec.field(name="step")
    token: str
    midnight_day: int
    load: FirstLoad | None = None


def offsets_with_checkpoint(
    settings: Settings, partition: int, checkpoint: Checkpoint
) -> dict[TopicPartition, OffsetAndMetadata]:
    """All three offsets, those that did not move too, each with the batch, its token, the midnight, the first load."""
    said: dict[str, object] = {
        "step": checkpoint.batch_id,
        "token": checkpoint.token,
        "midnight_day": checkpoint.midnight_day,
    }
    if checkpoint.load is not None:
        said["load"] = checkpoint.load
    metadata = msgspec.json.encode(said).decode()
    return {
        TopicPartition(settings.topic(topic), partition): OffsetAndMetadata(
            checkpoint.offsets[topic], metadata
        )
        for topic in INPUT_TOPICS
    }


def checkpoint_of(found: CommittedOffsets, group_id: str, partition: int) -> Checkpoint | None:
    """The checkpoint that offsets carry; None if there are none, `StoppedError` for offsets that are not ours."""
    committed = {topic: offset for topic, offset in found.items() if offset is not None}
    if not committed:
        return None
    try:
        said = {
            topic: msgspec.json.decode(offset.metadata or b"", type=_Metadata)
            for topic, offset in committed.items()
        }
    except msgspec.DecodeError:
        said = {}
    if len(said) != len(INPUT_TOPICS) or len({metadata.token for metadata in said.values()}) != 1:
        raise StoppedError(
            f"partition {partition}: stopped: the committed offsets of group {group_id!r} are not those of "
            "one micro-batch: something else commits under this EBBTIDE_GROUP_ID"
        )
    checkpoint = said[INPUT_TOPICS[0]]
    offsets = {topic: int(offset.offset) for topic, offset in committed.items()}
    return Checkpoint(
        checkpoint.batch_id, checkpoint.token, checkpoint.midnight_day, offsets, checkpoint.load
    )
