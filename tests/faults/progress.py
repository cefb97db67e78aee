"""How far a group is, by Kafka's committed offsets and by Redis."""

from __future__ import annotations

import json
from contextlib import suppress

import redis
from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from schemas.topics import INPUT_TOPICS
from streams.settings import Settings
from streams.state.keys import PartitionKeys


class Progress:
    """Asks again and again; where nobody answers, what was said last still holds, and `problem` says why."""

    def __init__(self, settings: Settings, partitions: int, records: int) -> None:
        self._settings = settings
        self._partitions = partitions
        self._records = records
        self._redis = redis.Redis.from_url(settings.redis_url)
        self._admin: KafkaAdminClient | None = None
        self._batches: dict[int, int] = {}
        self._offsets: dict[tuple[str, int], int] = {}
        self.problem: str | None = None

    def batches(self) -> int:
        """How many micro-batches Kafka has, of all partitions together."""
        self._ask()
        return sum(self._batches.values())

    def partition_batches(self) -> dict[int, int]:
        """How many micro-batches Kafka has of each partition that has been taken over."""
        self._ask()
        return dict(self._batches)

    def backlog(self) -> int:
        """How many records Kafka's offsets are short of the end of the inputs."""
        self._ask()
        return self._records - sum(self._offsets.values())

    def offsets(self) -> dict[tuple[str, int], int]:
        """Kafka's offsets by topic (without prefix) and partition."""
        self._ask()
        return dict(self._offsets)

    def redis_batches(self) -> list[int]:
        """The micro-batch of each partition in Redis; -1 where there is none."""
        asked = self._redis.pipeline(transaction=False)
        for partition in range(self._partitions):
            asked.hget(PartitionKeys.of(self._settings, partition).meta, "step")
        return [-1 if batch is None else int(batch) for batch in asked.execute()]

    def members(self) -> dict[str, list[str]]:
        """The members of the consumer group, with the topic partitions that each is assigned."""
        group = self._client().describe_groups([self._settings.group_id])[self._settings.group_id]
        return {
            member["member_id"]: [
                f"{assigned['topic']}/{partition}"
                for assigned in (member["member_assignment"] or {}).get("assigned_partitions", [])
                for partition in assigned["partitions"]
            ]
            for member in group["members"]
        }

    def close(self) -> None:
        """Let go of the connections."""
        self._redis.close()
        self._drop()

    def _ask(self) -> None:
        group = self._settings.group_id
        try:
            offsets = self._client().list_group_offsets(group)[group]
        except (KafkaError, OSError) as error:
            self.problem = f"{type(error).__name__}: {error}"
            self._drop()
            return
        self.problem = None
        for tp, offset in offsets.items():
            name = tp.topic.removeprefix(self._settings.topic_prefix)
            if name in INPUT_TOPICS and offset.metadata:
                self._offsets[name, tp.partition] = offset.offset
                self._batches[tp.partition] = json.loads(offset.metadata)["step"]

    def _client(self) -> KafkaAdminClient:
        if self._admin is None:
            self._admin = KafkaAdminClient(
                bootstrap_servers=self._settings.kafka_bootstrap_servers.split(",")
            )
        return self._admin

    def _drop(self) -> None:
        if self._admin is not None:
            with suppress(Exception):
                self._admin.close()
            self._admin = None
