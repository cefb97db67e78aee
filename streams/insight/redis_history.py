"""The history that Redis holds, as lines of a log: what `calibrate --from-redis` is fitted to."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator

import orjson

from enrichment.model import Model
from streams.console.refusals import Refusals
from streams.insight.in_turn import in_turn
from streams.insight.state_records import records_of_state
from streams.replay.log import Line
from streams.settings import Settings
from streams.state.held_state import held_partitions

PAGE_CUSTOMERS = 2_000


def lines_of_states(settings: Settings, model: Model, refusals: Refusals) -> Iterator[Line]:
    """Records that come to what the states of all customers hold; each names the partition of its customer.

    States that cannot be read are left out, and counted in `refusals`.

    Raises:
        EbbtideError: Redis does not answer, or holds nothing of the group.
    """
    return in_turn(_lines(settings, model, refusals))


async def _lines(settings: Settings, model: Model, refusals: Refusals) -> AsyncGenerator[Line]:
    async with held_partitions(settings, model) as partitions:
        for held in partitions:
            ids = sorted(await held.store.all_ids())
            place = f"Redis, partition {held.partition}"
            for start in range(0, len(ids), PAGE_CUSTOMERS):
                known = await held.known(ids[start : start + PAGE_CUSTOMERS], refusals)
                for customer_id, customer in known.items():
                    for topic, record in records_of_state(customer_id, customer.state, model.base_currency):
                        yield Line(topic, orjson.dumps(record), f"{place}, customer {customer_id}")
