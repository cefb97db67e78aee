"""Make the bundled demo events from the raw tables of The Complete Journey (kept for provenance).

    python tools/make_demo_events.py --source DIR --out streams/demo_data

`DIR` holds CSV exports of the R package `completejourney` (CC0): `transactions_sample.csv.gz`,
`campaigns.csv`, `campaign_descriptions.csv`, `coupon_redemptions.csv` and `demographics.csv`. The output is
three files of gzipped JSON Lines, sorted by `occurred_at`, `customer_id`, `event_id`; the same source gives
the same bytes. `streams/demo_data/README.md` tells what is real, what is assumed and what is synthetic.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any

Record = dict[str, Any]
Row = dict[str, str]

CENT = Decimal("0.01")
MICRO = Decimal("0.000001")
DEMOGRAPHICS = (
    "age",
    "income",
    "home_ownership",
    "marital_status",
    "household_size",
    "household_comp",
    "kids_count",
)

# The synthetic consents. Shares are of households, except where a comment says otherwise.
SEED = "ebbtide-demo-1"
GRANTED_SHARE = {"email": 0.60, "sms": 0.25, "post": 0.80, "push": 0.15}
WITHDRAWN_SHARE = 0.10  # of grants
GRANTED_AGAIN_SHARE = 0.25  # of withdrawals
PROFILING_DENIED_SHARE = 0.03
PROFILING_ALLOWED_AGAIN_SHARE = 1 / 3  # of denials
YEAR_START = datetime(2017, 1, 1, tzinfo=UTC)
YEAR_END = datetime(2018, 1, 1, tzinfo=UTC)


def read_rows(path: Path) -> list[Row]:
    """The rows of a CSV file, gzipped or not."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def rfc3339(moment: datetime) -> str:
    """A UTC time as the contract writes it; all times of this data set are whole seconds."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def day_at(date: str, hour: int) -> str:
    """The given hour (UTC) of an ISO date."""
    return rfc3339(datetime.fromisoformat(date).replace(hour=hour, tzinfo=UTC))


def share(household: str, *what: str) -> float:
    """A number in [0, 1) that depends on the seed, the household and the question, and on nothing else."""
    digest = hashlib.sha256("/".join((SEED, household, *what)).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def item(line: Row) -> Record:
    """One receipt line; `unit_price` is what the store received per unit, absent where the quantity is 0."""
    quantity = int(Decimal(line["quantity"]))
    made: Record = {"sku": line["product_id"], "quantity": quantity}
    if quantity:
        price = (Decimal(line["sales_value"]).quantize(CENT) / quantity).quantize(MICRO, ROUND_HALF_EVEN)
        made["unit_price"] = f"{price.normalize():f}"
    return made


def paid(lines: Iterable[Row]) -> Decimal:
    """What the household paid for these lines, in dollars, never negative.

    By the publisher's user guide, `sales_value` is what the store received, loyalty discounts and the store's
    match of a coupon already taken off. A maker's coupon is paid back to the store, so it is in `sales_value`
    although the household did not pay it. The lines are a sample: a coupon can be there without the product
    that it was for, hence the floor.
    """
    total = sum((Decimal(line["sales_value"]) - Decimal(line["coupon_disc"]) for line in lines), Decimal(0))
    return max(total, Decimal(0)).quantize(CENT, ROUND_HALF_EVEN)


def make_purchases(transactions: list[Row], demographics: list[Row]) -> list[Record]:
    """One `order` per basket; a household's demographics are attributes of its first order."""
    baskets: dict[str, list[Row]] = {}
    for line in transactions:
        baskets.setdefault(line["basket_id"], []).append(line)
    orders: list[Record] = []
    for basket_id, lines in baskets.items():
        assert len({line["household_id"] for line in lines}) == 1
        moment = datetime.fromisoformat(min(line["transaction_timestamp"] for line in lines))
        orders.append(
            {
                "event_id": f"order-{basket_id}",
                "customer_id": lines[0]["household_id"],
                "occurred_at": rfc3339(moment.replace(tzinfo=UTC)),
                "kind": "order",
                "order_id": basket_id,
                "currency": "USD",
                "total": str(paid(lines)),
                "channel": "store",
                "items": [item(line) for line in sorted(lines, key=lambda line: line["product_id"])],
            }
        )
    orders = in_order(orders)
    known = {row["household_id"]: row for row in demographics}
    for order in orders:
        row = known.pop(order["customer_id"], None)
        if row is not None:
            order["attributes"] = {name: row[name] for name in DEMOGRAPHICS if row[name]}
    return orders


def make_engagements(campaigns: list[Row], descriptions: list[Row], redemptions: list[Row]) -> list[Record]:
    """Campaign sends as `delivered` by post on the campaign's first day; coupon redemptions as `redeemed`."""
    start_dates = {row["campaign_id"]: row["start_date"] for row in descriptions}
    events = [
        {
            "event_id": f"sent-{row['campaign_id']}-{row['household_id']}",
            "customer_id": row["household_id"],
            "occurred_at": day_at(start_dates[row["campaign_id"]], 9),
            "kind": "delivered",
            "channel": "post",
            "campaign_id": row["campaign_id"],
        }
        for row in campaigns
    ]
    for row in redemptions:
        date, coupon = row["redemption_date"], row["coupon_upc"]
        events.append(
            {
                "event_id": f"redeemed-{row['campaign_id']}-{row['household_id']}-{date}-{coupon}",
                "customer_id": row["household_id"],
                "occurred_at": day_at(date, 12),
                "kind": "redeemed",
                "channel": "store",
                "campaign_id": row["campaign_id"],
            }
        )
    return in_order(events)


def consent_steps(household: str, joined: datetime) -> Iterator[tuple[str, datetime, bool]]:
    """The synthetic consents of a household, as (purpose, time, granted); changes of mind fall in 2017."""

    def between(earliest: datetime, latest: datetime, *what: str) -> datetime:
        seconds = (latest - earliest).total_seconds() * share(household, *what)
        return earliest + timedelta(seconds=int(seconds))

    def later(moment: datetime, purpose: str) -> datetime:
        return between(moment + timedelta(days=30), moment + timedelta(days=120), purpose, "again at")

    first_change = max(joined, YEAR_START) + timedelta(days=14)
    for purpose, granted_share in GRANTED_SHARE.items():
        if share(household, purpose) >= granted_share:
            continue
        yield purpose, joined, True
        if share(household, purpose, "withdrawn") < WITHDRAWN_SHARE and first_change < YEAR_END:
            withdrawn = between(first_change, YEAR_END, purpose, "withdrawn at")
            yield purpose, withdrawn, False
            again = later(withdrawn, purpose)
            if share(household, purpose, "again") < GRANTED_AGAIN_SHARE and again < YEAR_END:
                yield purpose, again, True
    if share(household, "profiling") < PROFILING_DENIED_SHARE and first_change < YEAR_END:
        denied = between(first_change, YEAR_END, "profiling", "denied at")
        yield "profiling", denied, False
        again = later(denied, "profiling")
        if share(household, "profiling", "again") < PROFILING_ALLOWED_AGAIN_SHARE and again < YEAR_END:
            yield "profiling", again, True


def make_consents(real_events: list[Record]) -> list[Record]:
    """Synthetic consents, from the midnight that begins each household's first day in the data."""
    first_seen: dict[str, str] = {}
    for event in real_events:
        household, moment = event["customer_id"], event["occurred_at"]
        first_seen[household] = min(first_seen.get(household, moment), moment)
    events = []
    for household, moment in first_seen.items():
        joined = datetime.fromisoformat(moment[:10]).replace(tzinfo=UTC)
        for number, (purpose, at, granted) in enumerate(consent_steps(household, joined), start=1):
            events.append(
                {
                    "event_id": f"consent-{household}-{number}",
                    "customer_id": household,
                    "occurred_at": rfc3339(at),
                    "kind": "consent",
                    "purpose": purpose,
                    "granted": granted,
                }
            )
    return in_order(events)


def in_order(events: list[Record]) -> list[Record]:
    """By time, customer and event; the ids must be unique per customer."""
    assert len({(event["customer_id"], event["event_id"]) for event in events}) == len(events)
    return sorted(events, key=lambda event: (event["occurred_at"], event["customer_id"], event["event_id"]))


def write(path: Path, events: list[Record]) -> None:
    """JSON Lines, gzipped with neither name nor time in the header: the bytes depend on the events alone."""
    lines = "".join(json.dumps(event, ensure_ascii=False, separators=(",", ":")) + "\n" for event in events)
    with (
        path.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=9, mtime=0) as out,
    ):
        out.write(lines.encode())
    households = len({event["customer_id"] for event in events})
    print(f"{path.name}: {len(events):,} events of {households:,} households, {path.stat().st_size:,} bytes")


def main() -> None:
    """Read the raw tables, write the three event files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", type=Path, required=True, help="folder with the raw CSV files")
    parser.add_argument("--out", type=Path, required=True, help="folder for the three .jsonl.gz files")
    arguments = parser.parse_args()
    source, out = arguments.source, arguments.out
    purchases = make_purchases(
        read_rows(source / "transactions_sample.csv.gz"), read_rows(source / "demographics.csv")
    )
    engagements = make_engagements(
        read_rows(source / "campaigns.csv"),
        read_rows(source / "campaign_descriptions.csv"),
        read_rows(source / "coupon_redemptions.csv"),
    )
    out.mkdir(parents=True, exist_ok=True)
    write(out / "purchases.jsonl.gz", purchases)
    write(out / "engagements.jsonl.gz", engagements)
    write(out / "consents.jsonl.gz", make_consents(purchases + engagements))


if __name__ == "__main__":
    main()
