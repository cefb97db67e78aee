"""Transactions that are open on the inputs: whose they are, for how long, and how they are ended.

Nothing behind one can be read, and midnights wait for it. A producer that uses transactions always has some open for a
moment; those that were open at one look and still are at the next are told of.
"""

from __future__ import annotations

import time
from typing import Any, Final, NamedTuple

from kafka import TopicPartition
from kafka.errors import KafkaError

from streams.kafka.admin import admin_client
from streams.kafka.topics import INPUTS
from streams.settings import Settings

LOOK_AGAIN_S: Final = 1.0
LONG_OPEN_S: Final = 900.0
"""How long a transaction is open until that is called an error: as long as brokers let one last by default."""
OLDEST_BROKER: Final = "DescribeProducers"
"""What a broker must know to be asked (Kafka 2.8)."""


class OpenTransaction(NamedTuple):
    """One that stands open on an input.

    `transactional_id` is None where this account may not see it, or no coordinator knows the transaction any more;
    `open_for_s`, since it began or else since its last record, is None where nothing tells.
    """

    topic: str
    partition: int
    producer_id: int
    start_offset: int
    transactional_id: str | None
    open_for_s: float | None

    @property
    def is_long_open(self) -> bool:
        """Whether it is an error, not only something to know."""
        return self.open_for_s is not None and self.open_for_s >= LONG_OPEN_S

    def message(self, servers: str) -> str:
        """One line: where it is, whose, since when, and the command that aborts it."""
        whose = f"producer id {self.producer_id}"
        if self.transactional_id is not None:
            whose += f", transactional id {self.transactional_id}"
        since = "" if self.open_for_s is None else f" for {self.open_for_s:.0f} s"
        return (
            f"{self.topic} partition {self.partition}: a transaction has been open{since} at offset "
            f"{self.start_offset} ({whose}): what lies behind it cannot be read, and midnights wait; "
            f"if its producer will not end it: kafka-transactions.sh --bootstrap-server {servers} abort "
            f"--topic {self.topic} --partition {self.partition} --start-offset {self.start_offset}"
        )


def open_transactions(settings: Settings, look_again_s: float = LOOK_AGAIN_S) -> list[OpenTransaction]:
    """Those open on an input of this group at two looks, by topic, partition and offset.

    None where the broker cannot be asked, as those before Kafka 2.8.

    Raises:
        EbbtideError: Kafka does not answer.
    """
    with admin_client(settings) as admin:
        if not any(key.name == OLDEST_BROKER for key in admin.api_versions()):
            return []
        places = _places(admin, settings)
        first = _open(admin, places)
        if not first:
            return []
        time.sleep(look_again_s)
        still = [at for at in _open(admin, places) if at in first]
        began_ms = _beginnings(admin, sorted({at.producer_id for at in still}))
        found = []
        for at in still:
            name, since_ms = began_ms.get(at.producer_id, (None, first[at]))
            open_for_s = max(0.0, time.time() - since_ms / 1_000) if since_ms > 0 else None
            found.append(OpenTransaction(*at, name, open_for_s))
        return sorted(found)


class _Place(NamedTuple):
    topic: str
    partition: int
    producer_id: int
    start_offset: int


def _places(admin: Any, settings: Settings) -> list[TopicPartition]:
    """Every partition of the inputs."""
    described = admin.describe_topics([settings.topic(name) for name in INPUTS])
    return [
        TopicPartition(topic["name"], partition["partition_index"])
        for topic in described
        for partition in topic["partitions"]
    ]


def _open(admin: Any, places: list[TopicPartition]) -> dict[_Place, int]:
    """When each transaction that is open wrote last, in milliseconds since 1970; -1 where nothing tells."""
    return {
        _Place(tp.topic, tp.partition, state.producer_id, state.current_transaction_start_offset): (
            state.last_timestamp
        )
        for tp, found in admin.describe_producers(places).items()
        for state in found.active_producers
        if state.current_transaction_start_offset >= 0
    }


def _beginnings(admin: Any, producer_ids: list[int]) -> dict[int, tuple[str, int]]:
    """Transactional id, and when its transaction began, by producer id; without those that this account may not see."""
    if not producer_ids:
        return {}
    try:
        listed = admin.list_transactions(producer_id_filters=producer_ids)
        names = [transaction.transactional_id for of_broker in listed.values() for transaction in of_broker]
        described = admin.describe_transactions(names)
    except KafkaError:
        return {}
    return {
        transaction.producer_id: (name, transaction.transaction_start_time_ms)
        for name, transaction in described.items()
    }
