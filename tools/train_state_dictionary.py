"""Train the dictionary that customers' states in Redis are compressed with.

    python tools/train_state_dictionary.py --out streams/state.dictionary

The states are those of synthetic customers with up to a year of orders, engagement and consents, with ids of several
styles, so that the dictionary holds what customers of any business share. The same seed gives the same bytes.
States are read with the dictionary that they were written with: a new one needs a new format in
`streams/state/codec.py`.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import zstandard

from enrichment.customer.customer import Customer, CustomerState, empty_state
from enrichment.days import day_of
from enrichment.deciding.results import Results
from enrichment.enricher import Enricher
from enrichment.model import load_model
from schemas.decode import decode
from schemas.rejection import Rejection
from schemas.topics import InputTopic
from streams.state.codec import packed

DICTIONARY_BYTES = 16_384
CUSTOMERS = 2_500
MOST_EVENTS = 60
START = datetime(2025, 6, 1, tzinfo=UTC)
DAYS = 365
CHANNELS = ("email", "email", "email", "sms", "push", "web", "web", "app", "phone", "post", None)
KINDS = (
    *("delivered", "opened", "clicked", "read", "visited", "viewed", "cart_updated", "redeemed"),
    "surveyed",
)
ID_STYLES: tuple[Callable[[random.Random], str], ...] = (
    lambda rng: f"{rng.getrandbits(64):016x}",
    lambda rng: str(UUID(int=rng.getrandbits(128), version=4)),
    lambda rng: str(rng.randint(10**6, 10**9)),
    lambda rng: f"o-{rng.randint(10**5, 10**8)}",
)

Record = dict[str, Any]


def order(rng: random.Random, new_id: Callable[[], str], currency: str) -> Record:
    """An order of one to three lines."""
    total = rng.lognormvariate(3.5, 0.8)
    items = [
        {"category": f"{rng.choice(('category', 'department'))} {rng.randint(1, 30)}", "quantity": 1}
        for _ in range(rng.randint(0, 3))
    ]
    made = {
        "kind": "order",
        "order_id": new_id(),
        "currency": currency,
        "total": f"{total:.2f}",
        "items": items,
    }
    return {**made, "cost_of_goods": f"{0.6 * total:.2f}"} if rng.random() < 0.5 else made


def engagement(rng: random.Random) -> Record:
    """A touch of any kind."""
    return {"kind": rng.choice(KINDS), "channel": rng.choice(CHANNELS), "automated": rng.random() < 0.1}


def consent(rng: random.Random) -> Record:
    """A channel given or withdrawn."""
    return {"kind": "consent", "purpose": rng.choice(("email", "sms", "push")), "granted": rng.random() < 0.8}


def history(rng: random.Random) -> Iterator[tuple[InputTopic, Record]]:
    """One customer's records, by time."""
    style, currency = rng.choice(ID_STYLES), rng.choice(("USD", "USD", "EUR", "GBP"))
    seconds = sorted(rng.randrange(DAYS * 86_400) for _ in range(rng.randint(1, MOST_EVENTS)))
    for second in seconds:
        drawn = rng.random()
        topic: InputTopic = "purchases" if drawn < 0.3 else "engagements" if drawn < 0.95 else "consents"
        record = {
            "purchases": lambda: order(rng, lambda: style(rng), currency),
            "engagements": lambda: engagement(rng),
            "consents": lambda: consent(rng),
        }[topic]()
        moment = START + timedelta(seconds=second, milliseconds=rng.choice((0, rng.randrange(1_000))))
        yield topic, {"event_id": style(rng), "occurred_at": moment.isoformat(), **record}


def states(seed: int) -> Iterator[CustomerState]:
    """What is held of each customer after all of their records."""
    rng = random.Random(seed)
    model = load_model()
    model = model.model_copy(update={"rates": {"EUR": Decimal("1.08"), "GBP": Decimal("1.27")}})
    enricher = Enricher(model, "training")
    for number in range(CUSTOMERS):
        customer = Customer(str(number), empty_state(), model)
        for topic, record in history(rng):
            event = decode(topic, orjson.dumps({"customer_id": customer.id, **record}))
            assert not isinstance(event, Rejection), event
            enricher.process([event], {customer.id: customer}, day_of(event.occurred_at_us), Results(model))
        yield customer.state


def main() -> None:
    """Write the dictionary."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    samples: list[bytes | bytearray | memoryview[int]] = [packed(state) for state in states(options.seed)]
    dictionary = zstandard.train_dictionary(DICTIONARY_BYTES, samples, level=1)
    options.out.write_bytes(dictionary.as_bytes())
    total = sum(map(len, samples))
    print(f"{len(samples):,} states of {total / len(samples):,.0f} bytes on average")


if __name__ == "__main__":
    main()
