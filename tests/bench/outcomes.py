"""What a contender has made of a log: every change that it published, and every customer as it has them at the end."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import orjson

from bench import broker
from bench.drain import Run
from bench.state_codec import STATE_KEY, decode, redis_key
from enrichment.enricher import Enricher
from tests.integration.harness import Document, stored_profiles


@dataclass(frozen=True)
class Outcome:
    """Changes by customer in their order, and profiles by customer."""

    changes: dict[str, list[Document]]
    profiles: dict[str, Document]
    dead_letters: int


def outcome_of(run: Run, until_us: int) -> Outcome:
    """Read it from the topics, and from where the contender keeps its state; profiles are as of `until_us`."""
    changes: dict[str, list[Document]] = defaultdict(list)
    for message in broker.values(run.settings, "segment-changes", run.partitions):
        changes[message.key().decode()].append(orjson.loads(message.value()))
    dead = sum(1 for _ in broker.values(run.settings, "dead-letters", run.partitions))
    if run.contender.name.startswith("ebbtide"):
        return Outcome(dict(changes), asyncio.run(stored_profiles(run.settings, until_us)), dead)
    states = _quix_states(run) if run.contender.name.startswith("quix") else _redis_states(run)
    return Outcome(dict(changes), _profiles(run, dict(states), until_us), dead)


def _profiles(run: Run, states: dict[str, bytes], until_us: int) -> dict[str, Document]:
    model = run.settings.load_model()
    enricher = Enricher(model, run.settings.change_namespace, run.settings.horizons)
    customers = [decode(customer_id, state, model) for customer_id, state in sorted(states.items())]
    known = [customer for customer in customers if customer.is_known]
    documents = enricher.profiles(known, [until_us] * len(known))
    return {
        customer.id: orjson.loads(orjson.dumps(document))
        for customer, document in zip(known, documents, strict=True)
    }


def _redis_states(run: Run) -> Iterator[tuple[str, bytes]]:
    start = redis_key(run.settings.topic_prefix, "")
    with run.services.redis.client() as client:
        for key in client.scan_iter(match=f"{start}*", count=1_000):
            state = client.get(key)
            assert isinstance(state, bytes)
            yield key.decode().removeprefix(start), state


def _quix_states(run: Run) -> Iterator[tuple[str, bytes]]:
    """By the changelog: the latest value of each key, which is the customer's id and the name of the state."""
    (changelog,) = (name for name in broker.topic_names(run.settings) if name.startswith("changelog__"))
    for message in broker.values_of(run.settings, changelog, run.partitions):
        yield message.key().decode().removesuffix(f"|{STATE_KEY.decode()}"), message.value()
