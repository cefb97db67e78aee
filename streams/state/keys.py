"""Every key that Ebbtide keeps in Redis, and how long it lives.

All keys of one partition share a hash tag made of topic prefix, group and partition, so that a cluster keeps
them together and one script can write them at once. Nothing that is known of customers expires: an expired key would
read as a new customer.
"""

from __future__ import annotations

from dataclasses import dataclass

from streams.settings import Settings

ROOT = "ebbtide"


@dataclass(frozen=True, slots=True)
class PartitionKeys:
    """The keys of one partition of one group."""

    topic_prefix: str
    group_id: str
    partition: int

    @classmethod
    def of(cls, settings: Settings, partition: int) -> PartitionKeys:
        """The keys that a worker with these settings uses."""
        return cls(settings.topic_prefix, settings.group_id, partition)

    @property
    def base(self) -> str:
        """What all keys of the partition begin with."""
        return f"{ROOT}:{{{self.topic_prefix}:{self.group_id}:{self.partition}}}"

    @property
    def meta(self) -> str:
        """Hash: owner token, micro-batch, micro-batch token, offsets, midnight, first load, model, topics' ids.

        Also why the partition stopped, and where it is stuck. Lives as long as the partition.
        """
        return f"{self.base}:meta"

    @property
    def due(self) -> str:
        """Sorted set: every known customer, by the UTC day on which something may next happen to them.

        It alone knows the day of those to whom nothing happened when they were last due.
        """
        return f"{self.base}:due"

    @property
    def erased(self) -> str:
        """Hash: HMAC of an erased customer's id → how often and up to when. Lives on: old records must stay out."""
        return f"{self.base}:erased"

    @property
    def outbox(self) -> str:
        """String: the output records of the latest micro-batch, until Kafka is known to have them."""
        return f"{self.base}:outbox"

    @property
    def skipped(self) -> str:
        """Hash: topic and first offset of what was skipped → the next offset. Lives as long as the partition."""
        return f"{self.base}:skipped"

    @property
    def skip_request(self) -> str:
        """String: what `ebbtide skip` asks the owner for, until a batch has done it or the owner has refused it."""
        return f"{self.base}:skip-request"

    @property
    def failing(self) -> str:
        """String: why a worker fails with the partition again and again. Expires soon after it was told last."""
        return f"{self.base}:stuck"

    def delivered(self, output: str) -> str:
        """Hash: HMAC of a customer's id → what an output of `ebbtide deliver` was told. Lives as long as the output."""
        return f"{self.base}:out:{output}"

    def customer(self, customer_id: str) -> str:
        """String: one customer's state; deleted by their erasure."""
        return f"{self.base}:c:{customer_id}"
