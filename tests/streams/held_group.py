"""A group's states in Redis as its worker would leave them, made by replay, with no broker in between."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from enrichment.customer.customer import Customer
from enrichment.days import day_of
from enrichment.model import Model
from streams.checkpoint import Checkpoint
from streams.demo.demo import Events, demo_settings, load_events
from streams.replay.replay import Replayed, replay
from streams.settings import Settings
from streams.state.keys import PartitionKeys
from streams.state.store import StateStore, stored_state

NOWHERE = "127.0.0.1:1"
"""Reading what is held needs no broker."""


@dataclass(frozen=True, slots=True)
class HeldGroup:
    """A share of the demo's households, replayed and stored in partitions, and the events they come from."""

    settings: Settings
    events: Events
    replayed: Replayed
    partition_of: dict[str, int]

    @property
    def model(self) -> Model:
        return self.settings.load_model()

    @property
    def midnight_day(self) -> int:
        """The last midnight of every partition."""
        return day_of(self.replayed.end_us)

    def profile_of(self, customer_id: str) -> dict[str, Any]:
        """The profile that replay made, as of the log's end."""
        (profile,) = (p for p in self.replayed.profiles if p["customer_id"] == customer_id)
        return dict(profile)


def hold_group(redis_url: str, group_id: str, percent_of_households: int = 3) -> HeldGroup:
    """Replay a share of the demo's households and store everyone; `group_id` keeps them apart from others."""
    settings = demo_settings(NOWHERE, redis_url).model_copy(update={"group_id": group_id})
    events = load_events(percent_of_households)
    model = settings.load_model()
    replayed = replay(((topic, value) for topic, _, _, value in events), model, horizons=settings.horizons)
    partition_of = {key.decode(): partition for _, partition, key, _ in events}
    held = HeldGroup(settings, events, replayed, partition_of)
    for partition in sorted(set(partition_of.values())):
        customers = [c for c in replayed.customers.values() if partition_of[c.id] == partition]
        hold(settings, model, partition, held.midnight_day, customers)
    return held


def hold(
    settings: Settings,
    model: Model,
    partition: int,
    midnight_day: int,
    customers: list[Customer],
    *,
    is_restoring: bool = False,
) -> None:
    """Store customers as those of a partition."""

    async def store() -> None:
        async with Redis.from_url(settings.redis_url) as redis:
            keys = PartitionKeys.of(settings, partition)
            states = StateStore(redis, keys, model, settings.erasure_keys)
            await states.claim(secrets.token_hex(8))
            checkpoint = Checkpoint(
                1, "token", midnight_day, {"consents": 0, "purchases": 0, "engagements": 0}
            )
            await states.begin_restore(checkpoint, model.fingerprint)
            await states.put_restored([stored_state(customer) for customer in customers])
            if not is_restoring:
                await states.end_restore(checkpoint, model.fingerprint)

    asyncio.run(store())
