"""Made-up logs with every difficulty that the contract names, the same for the same seed.

A log is three lists of records in arrival order. All are valid and none is later than the contract accepts;
bad input has tests of its own. `MODEL_OVERRIDES` is the model that a log expects, to be laid over the
built-in one: `{**default, **MODEL_OVERRIDES}`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

Record = dict[str, Any]
SeededLog = dict[str, list[Record]]

TOPICS = ("purchases", "engagements", "consents")
HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

MODEL_OVERRIDES: dict[str, Any] = {
    "name": "seeded-log",
    "version": "1",
    "base_currency": "USD",
    "rates": {"EUR": "1.0837", "JPY": "0.006725"},
    "cost_ratio": "0.635",
    "cost_per_refund": "4.25",
    "profiling": "opt_out",
    "engagement": {
        "half_life_days": 30,
        "kinds": {
            "delivered": {"weight": 0, "unit_cost": "0.0125"},
            "opened": {"weight": 1},
            "clicked": {"weight": 3},
            "read": {"weight": 2},
            "visited": {"weight": 2},
            "viewed": {"weight": 1},
            "cart_updated": {"weight": 4},
            "redeemed": {"weight": 6},
            "declared": {"weight": 5},
            "surveyed": {"weight": 4, "unit_cost": "0.333333"},
            "support_contacted": {"weight": 0, "unit_cost": "6.50"},
            "acquired": {"weight": 0},
        },
    },
}

# How late a record may arrive; the contract's horizons are 400 days for purchases and 30 for engagement.
MOST_DELAY_DAYS = {"purchases": 120, "engagements": 25, "consents": 0}
# How long after it occurred a record may be delivered again; its id must still be known then.
REPEATED_WITHIN_DAYS = {"purchases": 120, "engagements": 25, "consents": 120}

CURRENCIES = ("USD", "USD", "EUR", "JPY")
CHANNELS = ("email", "sms", "push", "web", "app", "phone", "post", None)
CATEGORIES = ("shoes", "books", "garden", "toys", "music")
ATTRIBUTES = {
    "region": ("north", "south", "east", "west"),
    "vertical": ("retail", "health", "public"),
    "customer_type": ("person", "company"),
}


class _Author:
    """Writes one log; every choice comes from one generator, in one order."""

    def __init__(
        self, seed: int, customers: int, days: int, start: str, late_money: bool, erasure: bool
    ) -> None:
        self.rng = random.Random(f"ebbtide/{seed}")
        self.names = [f"customer-{number:03d}" for number in range(customers)]
        self.start_us = (datetime.fromisoformat(start) - EPOCH) // timedelta(microseconds=1)
        self.end_us = self.start_us + days * DAY_US
        self.late_money = late_money and days > 410
        self.erasure = erasure
        self.orders = 0
        self.ids: set[str] = set()
        self.log: dict[str, list[tuple[int, Record]]] = {topic: [] for topic in TOPICS}

    # ------------------------------------------------------------ small choices

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def moment(self, earliest_us: int | None = None, latest_us: int | None = None) -> int:
        """A time in the log: mostly a whole second, sometimes a midnight or the microsecond before one."""
        low = self.start_us if earliest_us is None else earliest_us
        high = max(low, (self.end_us if latest_us is None else latest_us) - 1)
        at_us = self.rng.randint(low, high)
        edge = self.rng.random()
        if edge < 0.03:
            at_us = at_us // DAY_US * DAY_US
        elif edge < 0.06:
            at_us = at_us // DAY_US * DAY_US + DAY_US - 1
        elif edge < 0.8:
            at_us = at_us // 1_000_000 * 1_000_000
        return min(max(at_us, low), high)

    def time_text(self, at_us: int) -> str:
        """RFC 3339, mostly in UTC, with a fraction where there is one."""
        moment = EPOCH + timedelta(microseconds=at_us)
        if self.chance(0.9):
            return moment.isoformat().replace("+00:00", "Z")
        return (moment.replace(tzinfo=None) + timedelta(hours=2)).isoformat() + "+02:00"

    def amount(self, currency: str, most: int = 200) -> str:
        """A decimal string of up to six decimals; now and then zero."""
        kind = self.rng.random()
        if kind < 0.04:
            return self.rng.choice(("0", "0.00", "0.000000"))
        scale = 100 if currency == "JPY" else 1
        if kind < 0.12:
            return f"{self.rng.randint(1, most * scale * 10**6) / 10**6:.6f}"
        if currency == "JPY":
            return str(self.rng.randint(1, most * scale))
        return f"{self.rng.randint(1, most * 100) / 100:.2f}"

    def part_of(self, amount: str, most: float) -> str:
        """A share of an amount, to the second decimal."""
        return f"{float(amount) * self.rng.uniform(0.05, most):.2f}"

    # ------------------------------------------------------------ writing

    def write(self, topic: str, customer: str, at_us: int, **fields: Any) -> Record:
        """Add one record, that arrives some time after it occurred; `None` fields are left out."""
        while (event_id := f"{topic[0]}-{self.rng.getrandbits(40):010x}") in self.ids:
            pass
        self.ids.add(event_id)
        record = {
            "event_id": event_id,
            "customer_id": customer,
            "occurred_at": self.time_text(at_us),
            **{name: value for name, value in fields.items() if value is not None},
        }
        if topic != "consents" and self.chance(0.15):
            names = self.rng.sample(sorted(ATTRIBUTES), self.rng.randint(1, 2))
            record["attributes"] = {name: self.rng.choice(ATTRIBUTES[name]) for name in names}
        self.log[topic].append((at_us + self.delay_us(topic), record))
        return record

    def delay_us(self, topic: str) -> int:
        """Mostly seconds; now and then hours or days, up to the most that the topic allows."""
        most_us = MOST_DELAY_DAYS[topic] * DAY_US
        kind = self.rng.random()
        if most_us == 0 or kind < 0.5:
            return 0
        reach_us = 60_000_000 if kind < 0.8 else 5 * HOUR_US if kind < 0.9 else most_us
        return self.rng.randint(0, reach_us)

    # ------------------------------------------------------------ purchases

    def order_story(self, customer: str) -> None:
        """One order and what becomes of it."""
        at_us = self.moment()
        currency = self.rng.choice(CURRENCIES)
        total = self.amount(currency)
        self.orders += 1
        order: Record = {"order_id": f"order-{self.orders:05d}", "currency": currency}
        follow_ups: list[Callable[[], None]] = []

        def after(most_days: int = 60) -> int:
            """A time after the order, now and then its very microsecond or a little before it."""
            kind = self.rng.random()
            if kind < 0.05:
                return at_us
            if kind < 0.12:
                return max(self.start_us, at_us - self.rng.randint(1, 3 * DAY_US))
            return self.moment(at_us, min(self.end_us, at_us + most_days * DAY_US))

        def version(kind: str, when_us: int, paid: str) -> None:
            self.write(
                "purchases",
                customer,
                when_us,
                kind=kind,
                **order,
                total=paid,
                cost_of_goods=self.part_of(paid, 0.9) if self.chance(0.5) else None,
                channel=self.rng.choice(("web", "store", None)),
                items=self.items(paid) if self.chance(0.3) else None,
            )

        def refund(when_us: int, paid_back: str) -> None:
            self.write(
                "purchases",
                customer,
                when_us,
                kind="refund",
                **order,
                total=paid_back,
                cost_of_goods=self.part_of(paid_back, 0.8) if self.chance(0.4) else None,
            )

        def cancel(when_us: int) -> None:
            self.write("purchases", customer, when_us, kind="cancellation", **order, total=total)

        if self.chance(0.97):  # the others' follow-ups are of an order that is never seen
            version("order", at_us, total)
        if self.chance(0.06):
            follow_ups.append(
                lambda: version("order", after(), self.rng.choice((total, self.amount(currency))))
            )
        if self.chance(0.10):
            follow_ups.append(lambda: version("order_updated", after(), self.amount(currency)))
        if self.chance(0.10):
            follow_ups.append(lambda: refund(after(), self.part_of(total, 0.6)))
        if self.chance(0.06):
            follow_ups.append(lambda: refund(after(), total))
        if self.chance(0.05):
            follow_ups.append(lambda: cancel(after()))
        for follow_up in follow_ups:
            follow_up()
        if self.late_money and at_us + 399 * DAY_US < self.end_us and self.chance(0.5):
            self.very_late(at_us, total, version, refund, cancel)

    def very_late(
        self,
        at_us: int,
        total: str,
        version: Callable[[str, int, str], None],
        refund: Callable[[int, str], None],
        cancel: Callable[[int], None],
    ) -> None:
        """A record around or beyond 400 days after its order's day: from 401 on it changes money only."""
        first_us, last_us = at_us + 399 * DAY_US, self.end_us - 1
        near_us = at_us + self.rng.choice((399, 400, 401, 402)) * DAY_US
        when_us = min(near_us, last_us) if self.chance(0.4) else self.rng.randint(first_us, last_us)
        kind = self.rng.random()
        if kind < 0.3:
            refund(when_us, total)
        elif kind < 0.5:
            refund(when_us, self.part_of(total, 0.7))
        elif kind < 0.7:
            cancel(when_us)
        elif kind < 0.9:
            version("order_updated", when_us, self.part_of(total, 1.5))
        else:
            version("order", when_us, self.part_of(total, 1.5))

    def items(self, total: str) -> list[Record]:
        count = self.rng.randint(1, 3)
        return [
            {
                "sku": f"sku-{self.rng.randint(1, 40)}",
                "category": self.rng.choice(CATEGORIES),
                "quantity": self.rng.randint(1, 3),
                "unit_price": self.part_of(total, 1 / count),
            }
            for _ in range(count)
        ]

    # ------------------------------------------------------------ engagement

    def touch(self, customer: str) -> None:
        """One engagement of any kind; a third of the opens are a machine's."""
        kind = self.rng.choice(sorted(MODEL_OVERRIDES["engagement"]["kinds"]))
        costs = {"acquired": 0.9, "support_contacted": 0.5, "delivered": 0.3}.get(kind, 0.05)
        currency = self.rng.choice(CURRENCIES) if self.chance(costs) else None
        score = None
        if kind == "surveyed":
            score = self.rng.choice((self.rng.randint(0, 10), self.rng.randint(0, 20) / 2))
        self.write(
            "engagements",
            customer,
            self.moment(),
            kind=kind,
            channel=self.rng.choice(CHANNELS),
            campaign_id=f"campaign-{self.rng.randint(1, 9)}" if self.chance(0.4) else None,
            automated=True if kind in ("opened", "clicked") and self.chance(0.3) else None,
            cost=self.amount(currency, 30 if kind == "acquired" else 5) if currency else None,
            currency=currency,
            score=score,
            declared=self.declaration() if kind == "declared" else None,
        )

    def declaration(self) -> Record:
        answers: Record = {
            "company_size": self.rng.choice(("1-10", "51-200", 320, "1000+")),
            "budget": self.rng.choice(("low", "medium", "high", 12000, 950.5)),
            "urgency": self.rng.choice(("low", "high", "now", 3)),
            "growth_plans": self.rng.choice((True, False, "strong")),
            "annual_value": self.rng.choice((1000, 25000.75, "40000")),
        }
        return {name: answers[name] for name in self.rng.sample(sorted(answers), self.rng.randint(1, 3))}

    # ------------------------------------------------------------ privacy

    def consent(
        self, customer: str, at_us: int, purpose: str, granted: bool, expires_us: int | None = None
    ) -> None:
        self.write(
            "consents",
            customer,
            at_us,
            kind="consent",
            purpose=purpose,
            granted=granted,
            expires_at=None if expires_us is None else self.time_text(expires_us),
        )

    def channel_story(self, customer: str) -> None:
        """A channel granted, some for a while, some withdrawn later, some at the same instant."""
        purpose = self.rng.choice([channel for channel in CHANNELS if channel])
        at_us = self.moment()
        expires_us = at_us + self.rng.randint(1, 90 * DAY_US) if self.chance(0.25) else None
        self.consent(customer, at_us, purpose, True, expires_us)
        if self.chance(0.4):
            self.consent(customer, at_us if self.chance(0.1) else self.moment(at_us), purpose, False)

    def profiling_story(self, customer: str) -> None:
        """Profiling denied; often allowed again, some for a while; some are denied once more."""
        denied_us = self.moment()
        self.consent(customer, denied_us, "profiling", False)
        if not self.chance(0.65):
            return
        if self.chance(0.2):  # at the same time denial wins
            self.consent(customer, denied_us, "profiling", True)
        allowed_us = self.moment(denied_us)
        expires_us = allowed_us + self.rng.randint(1, 60 * DAY_US) if self.chance(0.3) else None
        self.consent(customer, allowed_us, "profiling", True, expires_us)
        if self.chance(0.15):
            self.consent(customer, self.moment(allowed_us), "profiling", False)

    def erasure_story(self, customer: str) -> None:
        """Everything erased, sometimes just when an order occurs; what comes later is a new life."""
        at_us = self.moment()
        self.write("consents", customer, at_us, kind="erasure")
        if self.chance(0.5):
            self.write(
                "purchases",
                customer,
                at_us + self.rng.choice((0, 1)),
                kind="order",
                order_id=f"order-at-erasure-{len(self.ids)}",
                currency="USD",
                total=self.amount("USD"),
            )

    # ------------------------------------------------------------ the whole

    def fill(self, events: int, privacy: bool) -> None:
        while sum(map(len, self.log.values())) < events:
            customer = self.rng.choice(self.names)
            kind = self.rng.random()
            if kind < 0.50:
                self.order_story(customer)
            elif kind < 0.92:
                self.touch(customer)
            elif kind < 0.97 or not privacy:
                self.channel_story(customer)
            elif kind < 0.99 or not self.erasure:
                self.profiling_story(customer)
            else:
                self.erasure_story(customer)

    def repeat(self, share: float) -> None:
        """Deliver some records once more, word for word, while their ids are still remembered."""
        for topic in TOPICS:
            again_us = REPEATED_WITHIN_DAYS[topic] * DAY_US
            for arrives_us, record in list(self.log[topic]):
                if not self.chance(share):
                    continue
                occurred = datetime.fromisoformat(record["occurred_at"])
                occurred_us = (occurred - EPOCH) // timedelta(microseconds=1)
                latest_us = max(arrives_us, occurred_us + again_us)
                self.log[topic].append((self.rng.randint(arrives_us, latest_us), dict(record)))


def make_log(
    seed: int,
    *,
    customers: int = 40,
    days: int = 700,
    events: int = 2_000,
    start: str = "2023-03-01T00:00:00Z",
    disorder: bool = True,
    duplicates: bool = True,
    late_money: bool = True,
    privacy: bool = True,
    erasure: bool = True,
) -> SeededLog:
    """A log in arrival order: {"purchases": [...], "engagements": [...], "consents": [...]}.

    Args:
        seed: another seed is another log; print it when a test fails.
        customers: how many there are to choose from.
        days: UTC days from `start` on; records over 400 days after their order need more than 410.
        events: about how many records, repeats apart.
        start: RFC 3339, a midnight.
        disorder: records may arrive late, purchases by up to 120 days, engagement by up to 25, so refunds can
            arrive before their order; without it, arrival is by time. Consents always arrive by time (repeats
            apart), because what a denial has deleted stays deleted, whatever consent arrives later.
        duplicates: 3% of the records arrive twice (one event id, the same words).
        late_money: refunds, cancellations and updates around and beyond 400 days after their order's day.
        privacy: profiling is denied by some and allowed again by most of those; erasures.
        erasure: without it, privacy is about profiling only.
    """
    author = _Author(seed, customers, days, start, late_money, erasure)
    author.fill(events, privacy)
    if duplicates:
        author.repeat(0.03)

    def arrival(entry: tuple[int, Record]) -> tuple[int, str]:
        arrives_us, record = entry
        if not disorder:
            arrives_us = (datetime.fromisoformat(record["occurred_at"]) - EPOCH) // timedelta(microseconds=1)
        return arrives_us, record["event_id"]

    return {topic: [record for _, record in sorted(author.log[topic], key=arrival)] for topic in TOPICS}


def write_log(log: SeededLog, folder: Path) -> dict[str, Path]:
    """Write `purchases.jsonl`, `engagements.jsonl`, `consents.jsonl` in the given order; gives the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {topic: folder / f"{topic}.jsonl" for topic in TOPICS}
    for topic, path in paths.items():
        lines = (
            json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n" for record in log[topic]
        )
        path.write_text("".join(lines), encoding="utf-8")
    return paths
