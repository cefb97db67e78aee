"""What the inputs hold: a made-up log with every difficulty, and some records that are none of ours."""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass
from functools import cache

import orjson

from ebbtide.testing.records import DEFAULT_MODEL
from enrichment.model import Model
from schemas.timestamps import parse_timestamp
from schemas.topics import INPUT_TOPICS, InputTopic
from tests.enrichment.driver import SEEDED_MODEL
from tests.oracles.seeded_log import make_log

START = "2025-02-20T00:00:00+00:00"
POISON = (b"{", b"[]", None, b'{"event_id": "x"}')


@dataclass(frozen=True, slots=True)
class Input:
    """One record to produce. `occurred_at_us` is 0 where it says nothing."""

    topic: InputTopic
    partition: int
    key: bytes | None
    value: bytes | None
    occurred_at_us: int

    @property
    def is_poison(self) -> bool:
        """Whether it must become a dead letter."""
        return self.occurred_at_us == 0


@cache
def fast_model() -> Model:
    """The seeded logs' model, in which days do what weeks do in life, so that short logs have changes of all kinds."""
    engagement = {**SEEDED_MODEL["engagement"], "half_life_days": 3}
    metrics = {
        **DEFAULT_MODEL["metrics"],
        "recency_days": {"weight": 0.6, "missing": 0, "breakpoints": [[0, 100], [2, 60], [6, 0]]},
    }
    return Model.model_validate(
        {
            **SEEDED_MODEL,
            "name": "fast",
            "engagement": engagement,
            "metrics": metrics,
            "lifecycle": {**DEFAULT_MODEL["lifecycle"], "new_days": 3},
            "hysteresis": {"score_margin": 1, "churn_risk_margin": 0.01, "dwell_days": 1},
            "reactivation": {
                **DEFAULT_MODEL["reactivation"],
                "triggers": ["time", "event"],
                "delay_days": dict.fromkeys(("high", "medium", "emerging", "low", "prospect"), 1),
            },
        }
    )


def make_inputs(
    rng: random.Random, partitions: int, days: int, *, is_ordered: bool, topic_by_topic: bool
) -> list[Input]:
    """Records in the order in which they are produced; `is_ordered` says that this is also that of their times.

    With `topic_by_topic` one input is produced after the other, in any order, and `is_ordered` is said of each one.
    """
    log = make_log(
        rng.randrange(2**32),
        customers=rng.randint(2, 5),
        days=days,
        events=rng.randint(15, 50),
        start=START,
        disorder=not is_ordered,
    )
    inputs = []
    topics = rng.sample(INPUT_TOPICS, len(INPUT_TOPICS)) if topic_by_topic else INPUT_TOPICS
    for topic in topics:
        arrived_us = 0
        for document in log[topic]:
            key = str(document["customer_id"]).encode()
            occurred_us = parse_timestamp(document["occurred_at"])
            arrived_us = max(arrived_us, occurred_us)
            value = orjson.dumps(document)
            inputs.append((arrived_us, Input(topic, zlib.crc32(key) % partitions, key, value, occurred_us)))
    if not topic_by_topic:
        inputs.sort(key=lambda entry: entry[0])
    made = [entry for _, entry in inputs]
    for _ in range(rng.choice((0, 0, 3))):
        poison = Input(rng.choice(INPUT_TOPICS), rng.randrange(partitions), b"poison", rng.choice(POISON), 0)
        made.insert(rng.randrange(len(made) + 1), poison)
    return made
