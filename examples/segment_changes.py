"""A consumer of `segment-changes`: takes each change once, and writes down whom to call.

    pip install 'ebbtide[worker]'
    python examples/segment_changes.py --bootstrap-servers localhost:9092 --database calls.db

Kafka may hand over a change again after a crash of this program, and a worker with `at_least_once` may write it again.
So the effect of a change and its `change_id` go into one database transaction, and an id that is there already is
passed over. The same works with any database that your own program writes to.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer

TABLES = """
CREATE TABLE IF NOT EXISTS taken (change_id TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS calls (customer_id TEXT, since TEXT, tier TEXT, because TEXT);
"""


def take(database: sqlite3.Connection, change: dict[str, Any]) -> bool:
    """Act on a change, once; tells whether it was new."""
    with database:  # one transaction: both, or neither
        known = database.execute("INSERT OR IGNORE INTO taken VALUES (?)", (change["change_id"],))
        if known.rowcount == 0:
            return False
        if change["dimension"] == "tier" and change["direction"] == "downgrade":
            drivers = ", ".join(driver["metric"] for driver in change["reason"]["drivers"])
            row = (change["customer_id"], change["as_of"], change["current"], drivers)
            database.execute("INSERT INTO calls VALUES (?, ?, ?, ?)", row)
    return True


async def changes(consumer: AIOKafkaConsumer) -> AsyncIterator[dict[str, Any]]:
    """The changes of a topic, for ever; an offset is committed once its change has been taken."""
    async for record in consumer:
        yield orjson.loads(record.value)
        await consumer.commit()


async def run(bootstrap_servers: str, topic: str, group: str, path: str) -> None:
    """Take every change from the beginning of the topic, or from where this group stopped."""
    database = sqlite3.connect(path)
    database.executescript(TABLES)
    async with AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap_servers,
        group_id=group,
        isolation_level="read_committed",  # what a worker has taken back is never seen
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    ) as consumer:
        async for change in changes(consumer):
            if take(database, change):
                print(
                    f"{change['customer_id']}: {change['dimension']} {change['previous']} → {change['current']}"
                )


def main() -> None:
    """Run until Ctrl-C."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bootstrap-servers", default="localhost:9092")
    parser.add_argument("--topic", default="segment-changes", help="with your EBBTIDE_TOPIC_PREFIX before it")
    parser.add_argument("--group", default="calls")
    parser.add_argument("--database", default="calls.db")
    options = parser.parse_args()
    with suppress(KeyboardInterrupt):
        asyncio.run(run(options.bootstrap_servers, options.topic, options.group, options.database))


if __name__ == "__main__":
    main()
