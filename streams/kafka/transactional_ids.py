"""Transactional ids: one per partition, the same for each of its owners, so that Kafka fences the earlier one."""

from __future__ import annotations

from streams.settings import Settings


def transactional_id(settings: Settings, partition: int) -> str:
    """The same id for every owner of a partition, so that Kafka fences the earlier one."""
    return f"{transactional_ids_prefix(settings)}{partition}"


def transactional_ids_prefix(settings: Settings) -> str:
    """What the transactional ids of all partitions begin with."""
    return f"ebbtide-{settings.joined}-"


def transactional_id_0_1(settings: Settings, partition: int) -> str:
    """The id that Ebbtide 0.1 has for a partition; with some group ids and prefixes it is another."""
    return f"ebbtide-{settings.joined_by_0_1}-{partition}"
