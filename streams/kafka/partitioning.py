"""Where Kafka's own clients send a key: murmur2 of it, without its sign, modulo the number of partitions."""

from __future__ import annotations

from functools import lru_cache

from aiokafka.partitioner import DefaultPartitioner

_place = DefaultPartitioner()


@lru_cache(maxsize=100_000)
def default_partition(key: bytes, partitions: int) -> int:
    """The partition of a key among so many."""
    numbers = list(range(partitions))
    return int(_place(key, numbers, numbers))
