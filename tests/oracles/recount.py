"""An independent recount of every customer's `aggregates`, in pandas, straight from the text of the contract.

Nothing of the product is imported. Money is exact: int64 micro-units (a millionth of a currency unit) in the
frames, fractions where something is divided. Records are taken as valid and in time for their topic:
malformed and too late ones never come here. Where the contract is silent, the code says what was chosen.

    log = read_log(purchases, engagements, consents)
    recount(log, model, until="2025-06-30T00:00:00Z")["customer-1"]["order_count"]
"""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pandas as pd

Source = Path | str | Sequence["Source"] | Sequence[Mapping[str, Any]]
Aggregates = dict[str, Any]

DAY_US = 86_400_000_000
MICROS_PER_UNIT = 1_000_000
LATE_DAYS = 400
GAP_US = 400 * DAY_US
REMEMBERED_US: dict[str, int | None] = {
    "purchases": 400 * DAY_US,
    "engagements": 30 * DAY_US,
    "consents": None,
}
"""For how long after its own time an event id is known; consents are never too late, so theirs for ever."""
MINOR_UNIT_DIGITS = {"JPY": 0, "KRW": 0, "KWD": 3}
"""Of the base currencies that tests use; 2 for all others, as in ISO 4217."""
BEFORE_ALL_US, AFTER_ALL_US = -(2**62), 2**62
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ORDER_KEY = ["customer_id", "order_id"]


@dataclass(frozen=True)
class Log:
    """The records of the three topics, one row each, in replay order."""

    purchases: pd.DataFrame
    engagements: pd.DataFrame
    consents: pd.DataFrame


@dataclass(frozen=True)
class Terms:
    """What the recount needs of a model, in exact numbers; money in micro-units of the base currency."""

    rates: dict[str, Fraction]
    cost_ratio: Fraction
    cost_per_refund_micros: int
    unit_cost_micros: dict[str, int]
    scored_kinds: frozenset[str]
    profiling_allowed_by_default: bool
    minor_unit_digits: int


# ---------------------------------------------------------------- exact numbers


def exact(number: object) -> Fraction:
    """A decimal string, an int, or a float taken as its shortest decimal form."""
    return Fraction(Decimal(str(number)))


def micros(number: object) -> int:
    """A decimal amount in micro-units; it must be a whole number of them."""
    scaled = exact(number) * MICROS_PER_UNIT
    assert scaled.denominator == 1, number
    return int(scaled)


def half_even(number: Fraction) -> int:
    """The nearest integer; of two equally near, the even one (Python's own rounding of fractions)."""
    return round(number)


def money_text(amount_micros: Fraction | int, digits: int) -> str:
    """Micro-units rounded half-even, once, to `digits` decimals of the base currency."""
    minor = half_even(Fraction(amount_micros) * 10**digits / MICROS_PER_UNIT)
    return f"{Decimal(minor).scaleb(-digits):.{digits}f}"


def time_us(text: str) -> int:
    """Microseconds since the epoch of an RFC 3339 time."""
    moment = datetime.fromisoformat(text)
    assert moment.tzinfo is not None, text
    return (moment - EPOCH) // timedelta(microseconds=1)


def date_text(day: float | None) -> str | None:
    """The ISO date of a day counted from the epoch; nothing where there is no day."""
    return None if day is None or pd.isna(day) else (EPOCH + timedelta(days=int(day))).date().isoformat()


def read_terms(model: Mapping[str, Any]) -> Terms:
    """The relevant part of a model document (a plain dict with the keys of a model file).

    Used: `base_currency`, `rates`, `cost_ratio`, `cost_per_refund`, `engagement.kinds.*.weight|unit_cost`,
    `profiling` (by default `opt_out`).
    """
    kinds: dict[str, dict[str, Any]] = model["engagement"]["kinds"]
    rates = {currency: exact(rate) for currency, rate in model["rates"].items()}
    return Terms(
        rates={**rates, model["base_currency"]: Fraction(1)},
        cost_ratio=exact(model["cost_ratio"]),
        cost_per_refund_micros=micros(model["cost_per_refund"]),
        unit_cost_micros={kind: micros(entry.get("unit_cost", 0)) for kind, entry in kinds.items()},
        scored_kinds=frozenset(kind for kind, entry in kinds.items() if entry.get("weight", 0) > 0),
        profiling_allowed_by_default=model.get("profiling", "opt_out") == "opt_out",
        minor_unit_digits=MINOR_UNIT_DIGITS.get(model["base_currency"], 2),
    )


# ---------------------------------------------------------------- reading


def read_log(purchases: Source = (), engagements: Source = (), consents: Source = ()) -> Log:
    """A log from JSON Lines files (`.jsonl`, `.jsonl.gz`; one path or several) or from lists of records."""
    return Log(
        _frame(
            _records(purchases),
            ("kind", "order_id", "currency", "total", "cost_of_goods"),
        ),
        _frame(_records(engagements), ("kind", "channel", "automated", "cost", "currency")),
        _frame(_records(consents), ("kind", "purpose", "granted", "expires_at")),
    )


def _records(source: Source) -> Iterable[tuple[dict[str, Any], bytes]]:
    """Every record with its bytes; a record given as a dict has those of compact JSON."""
    if isinstance(source, (str, Path)):
        path = Path(source)
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        yield from ((json.loads(line), line) for line in data.split(b"\n") if line.strip())
        return
    for part in source:
        if isinstance(part, Mapping):
            yield dict(part), json.dumps(part, ensure_ascii=False, separators=(",", ":")).encode()
        else:
            yield from _records(part)


def _frame(records: Iterable[tuple[dict[str, Any], bytes]], fields: tuple[str, ...]) -> pd.DataFrame:
    """The named fields (None where absent) as columns, in replay order within the topic."""
    names = ("customer_id", "event_id", *fields)
    rows = [
        (*(record.get(name) for name in names), time_us(record["occurred_at"]), raw)
        for record, raw in records
    ]
    # Replay order: occurred_at, customer_id, event_id, raw bytes; topics differ between frames only.
    rows.sort(key=lambda row: (row[-2], row[0], row[1], row[-1]))
    columns = dict(zip((*names, "at_us", "raw"), zip(*rows, strict=True), strict=True)) if rows else {}
    frame = pd.DataFrame({name: pd.Series(columns.get(name, ()), dtype=object) for name in names})
    frame["at_us"] = pd.Series(columns.get("at_us", ()), dtype="int64")
    frame["day"] = frame["at_us"] // DAY_US
    return frame


def _rows(frame: pd.DataFrame, *names: str) -> Iterator[Any]:
    """Some columns, row by row, as plain Python objects."""
    return zip(*(frame[name].tolist() for name in names), strict=True)


# ---------------------------------------------------------------- acceptance and privacy


def without_repeats(frame: pd.DataFrame, remembered_us: int | None) -> pd.DataFrame:
    """Drop a record whose event id the customer's earlier record, still remembered, has in this topic.

    Of consents, purpose and `granted` are the same too. An id is remembered until its record would be too late: more
    than `remembered_us` before the newest one.
    """
    names = [name for name in ("customer_id", "event_id", "purpose", "granted") if name in frame.columns]
    repeated = frame[frame.duplicated(names, keep=False)]
    known: dict[tuple[object, ...], int] = {}
    dropped = []
    for index, (*identity, at) in zip(repeated.index, _rows(repeated, *names, "at_us"), strict=True):
        key = tuple(identity)
        first = known.get(key)
        if first is not None and (remembered_us is None or at - first <= remembered_us):
            dropped.append(index)
        else:
            known[key] = at
    return frame.drop(index=dropped)


def erased_up_to(consents: pd.DataFrame) -> dict[str, int]:
    """Per erased customer, the time of the last erasure. None is a repeat of a consent, whatever its event id."""
    erasures = consents[consents["kind"] == "erasure"]
    return {str(customer): int(at) for customer, at in erasures.groupby("customer_id")["at_us"].max().items()}


def dated_after(frame: pd.DataFrame, times_us: Mapping[str, int], otherwise_us: int) -> pd.DataFrame:
    """Only what is dated after the customer's time, or after `otherwise_us` for a customer without one."""
    # Not by a mapped column: beside missing values it would hold floats, where microseconds are not exact.
    after = [
        at > times_us.get(customer, otherwise_us) for customer, at in _rows(frame, "customer_id", "at_us")
    ]
    return frame[pd.Series(after, index=frame.index, dtype=bool)]


def engagement_dropped_up_to(
    consents: pd.DataFrame, allowed_by_default: bool, until_us: int
) -> dict[str, int]:
    """Per customer who has spoken on profiling, the last microsecond of the latest period without permission.

    After everything where it is not allowed now, before everything where it always was.
    """
    spoken = consents[(consents["kind"] == "consent") & (consents["purpose"] == "profiling")]
    answers: dict[str, dict[int, list[tuple[bool, str, str | None]]]] = {}
    for customer, at, *answer in _rows(spoken, "customer_id", "at_us", "granted", "event_id", "expires_at"):
        answers.setdefault(customer, {}).setdefault(at, []).append(tuple(answer))
    return {
        customer: _end_of_denial_us(by_time, allowed_by_default, until_us) - 1
        for customer, by_time in answers.items()
    }


def _end_of_denial_us(
    answers: dict[int, list[tuple[bool, str, str | None]]], allowed_by_default: bool, until_us: int
) -> int:
    """When permission last came back; `answers` are (granted, event id, expires_at) by time, ascending."""
    # A status and the time from which it holds, as one list over the customer's life.
    statuses = [(BEFORE_ALL_US, allowed_by_default)]
    runs_out_us = AFTER_ALL_US
    for at_us, same_time in answers.items():
        if runs_out_us <= at_us:
            statuses.append((runs_out_us, allowed_by_default))
        # The latest event id wins, but at the same time denial does.
        granted, _, expires_at = max(same_time, key=lambda answer: (not answer[0], answer[1]))
        runs_out_us = AFTER_ALL_US
        if granted and expires_at is not None:
            # The midnight after it is the first one later than it, also where it is a midnight itself.
            runs_out_us = (time_us(expires_at) // DAY_US + 1) * DAY_US
        # A grant that had run out before it was given is no grant: it leaves the default.
        statuses.append((at_us, granted if runs_out_us > at_us else allowed_by_default))
    if runs_out_us <= until_us:
        statuses.append((runs_out_us, allowed_by_default))
    if not statuses[-1][1]:
        return AFTER_ALL_US
    returns = [at_us for (_, before), (at_us, after) in itertools.pairwise(statuses) if after and not before]
    return returns[-1] if returns else BEFORE_ALL_US


# ---------------------------------------------------------------- purchases


def _converted(amounts: pd.Series[Any], currencies: pd.Series[Any], terms: Terms) -> pd.Series[int]:
    """Base micro-units of each record's decimal amount, half-even per record."""
    values = [half_even(micros(a) * terms.rates[c]) for a, c in zip(amounts, currencies, strict=True)]
    # So that no sum of them can leave int64.
    assert sum(map(abs, values)) < 2**62
    return pd.Series(values, index=amounts.index, dtype="int64")


def _priced(purchases: pd.DataFrame, terms: Terms) -> pd.DataFrame:
    """Adds total and cost of goods in base micro-units; a cost that is not given is the ratio's."""
    priced = purchases.copy()
    priced["total_micros"] = _converted(priced["total"], priced["currency"], terms)
    given = priced["cost_of_goods"].notna()
    priced["cost_micros"] = pd.Series(
        [half_even(terms.cost_ratio * total) for total in priced["total_micros"]],
        index=priced.index,
        dtype="int64",
    )
    priced.loc[given, "cost_micros"] = _converted(
        priced.loc[given, "cost_of_goods"], priced.loc[given, "currency"], terms
    )
    return priced


def _latest_version(versions: pd.DataFrame) -> pd.DataFrame:
    """Per order, the `order` or `order_updated` of the latest (`occurred_at`, `event_id`)."""
    ordered = versions.sort_values(["at_us", "event_id"], kind="stable")
    return ordered.drop_duplicates(ORDER_KEY, keep="last").set_index(ORDER_KEY)


def order_ledger(priced: pd.DataFrame, terms: Terms) -> pd.DataFrame:
    """One row per order that was seen: day, total_micros, cost_micros, counted, void (its money is)."""
    orders = priced[priced["kind"] == "order"]
    day = orders.groupby(ORDER_KEY)["day"].min().rename("order_day")
    known = priced.merge(day.reset_index(), on=ORDER_KEY)
    # A record more than 400 days after its order's day changes money only.
    late = known["day"] - known["order_day"] > LATE_DAYS
    is_version = known["kind"].isin(["order", "order_updated"])
    cancelled = known["kind"] == "cancellation"

    ledger = day.to_frame("day")
    ledger = ledger.join(_latest_version(known[is_version])[["total_micros", "cost_micros"]]).reset_index()
    ledger["void"] = _is_one_of(ledger, _keys(known[cancelled]))
    gone = _keys(known[cancelled & ~late]) | _fully_refunded(known[~late], terms)
    ledger["counted"] = ~_is_one_of(ledger, gone)
    return ledger


def _keys(frame: pd.DataFrame) -> set[tuple[str, str]]:
    """The (customer, order) pairs of some records."""
    return set(_rows(frame, *ORDER_KEY))


def _is_one_of(frame: pd.DataFrame, keys: set[tuple[str, str]]) -> pd.Series[bool]:
    return pd.Series([key in keys for key in _rows(frame, *ORDER_KEY)], index=frame.index, dtype=bool)


def _fully_refunded(known: pd.DataFrame, terms: Terms) -> set[tuple[str, str]]:
    """Orders of total > 0 whose refunds reach it, in the order's currency.

    A refund in another currency is compared at the model's rates, unrounded; in the order's own they cancel.
    """
    refunds = known[known["kind"] == "refund"]
    refunded: dict[tuple[str, str], Fraction] = {}
    for customer, order, total, currency in _rows(refunds, *ORDER_KEY, "total", "currency"):
        key = (customer, order)
        refunded[key] = refunded.get(key, Fraction(0)) + exact(total) * terms.rates[currency]
    versions = known[known["kind"].isin(["order", "order_updated"])]
    versions = _latest_version(versions[_is_one_of(versions, set(refunded))]).reset_index()
    totals = {
        (customer, order): exact(total) * terms.rates[currency]
        for customer, order, total, currency in _rows(versions, *ORDER_KEY, "total", "currency")
    }
    return {key for key, total in totals.items() if total > 0 and refunded[key] >= total}


def standing_orders(purchases: pd.DataFrame, terms: Terms) -> pd.DataFrame:
    """The counted orders, one row each, by customer and day."""
    ledger = order_ledger(_priced(purchases, terms), terms)
    return ledger[ledger["counted"]].sort_values(["customer_id", "day"], kind="stable")


def standing_refunds(priced: pd.DataFrame, ledger: pd.DataFrame) -> pd.DataFrame:
    """The refunds that count: not those of cancelled orders; at once those of orders not seen (yet)."""
    refunds = priced[priced["kind"] == "refund"]
    return refunds[~_is_one_of(refunds, _keys(ledger[ledger["void"]]))]


# ---------------------------------------------------------------- per customer


def _sums(frame: pd.DataFrame, column: str) -> pd.Series[int]:
    return frame.groupby("customer_id")[column].sum()


def _counts(frame: pd.DataFrame) -> pd.Series[int]:
    return frame.groupby("customer_id").size()


def _window(frame: pd.DataFrame, days: int, as_of_day: int) -> pd.DataFrame:
    """The rows of the `days` UTC days that end with `as_of_day`."""
    return frame[(frame["day"] > as_of_day - days) & (frame["day"] <= as_of_day)]


def purchase_columns(purchases: pd.DataFrame, terms: Terms, as_of_day: int) -> dict[str, pd.Series[Any]]:
    """Every aggregate that comes from purchases, by customer; money in base micro-units."""
    priced = _priced(purchases, terms)
    ledger = order_ledger(priced, terms)
    counted, paid = ledger[ledger["counted"]], ledger[~ledger["void"]]
    refunds = standing_refunds(priced, ledger)

    def net(column: str, days: int | None = None) -> pd.Series[int]:
        """Plus on the order's day, minus on the refund's day."""
        plus, minus = (rows if days is None else _window(rows, days, as_of_day) for rows in (paid, refunds))
        return _sums(plus, column).sub(_sums(minus, column), fill_value=0).astype("int64")

    by_customer = counted.groupby("customer_id")["day"]
    recent = _window(counted, 365, as_of_day)
    return {
        "first_order_day": by_customer.min(),
        "last_order_day": by_customer.max(),
        "order_count": _counts(counted),
        "purchase_days": by_customer.nunique(),
        "revenue": net("total_micros"),
        "refunded": _sums(refunds, "total_micros"),
        "margin": net("total_micros").sub(net("cost_micros"), fill_value=0),
        **{f"order_count_{days}d": _counts(_window(counted, days, as_of_day)) for days in (30, 90, 365)},
        **{f"revenue_{days}d": net("total_micros", days) for days in (30, 90, 365)},
        "margin_365d": net("total_micros", 365).sub(net("cost_micros", 365), fill_value=0),
        "counted_total_365d": _sums(recent, "total_micros"),
        "refund_cost_365d": _counts(_window(refunds, 365, as_of_day)) * terms.cost_per_refund_micros,
    }


def engagement_columns(engagements: pd.DataFrame, terms: Terms, as_of_day: int) -> dict[str, pd.Series[Any]]:
    """Every aggregate that comes from engagement, by customer; money in base micro-units."""
    automated = engagements["automated"].map(bool).astype(bool)
    acquired = engagements["kind"] == "acquired"
    touches = engagements.copy()
    given = touches["cost"].notna()
    # The model's unit cost stands in for costs to serve only; what acquiring cost is on the record.
    unit_cost_micros = {**terms.unit_cost_micros, "acquired": 0}
    unit_costs = [unit_cost_micros.get(kind, 0) for kind in touches["kind"]]
    touches["cost_micros"] = pd.Series(unit_costs, index=touches.index, dtype="int64")
    told = touches[given]
    touches.loc[given, "cost_micros"] = _converted(told["cost"], told["currency"], terms)
    touches["prefix"] = touches["channel"].fillna("none").mask(automated, "automated")
    scored = touches[touches["kind"].isin(terms.scored_kinds) & ~automated]
    counts: dict[str, dict[str, int]] = {}
    for customer, prefix, kind in _rows(_window(touches, 90, as_of_day), "customer_id", "prefix", "kind"):
        of_customer = counts.setdefault(customer, {})
        of_customer[f"{prefix}.{kind}"] = of_customer.get(f"{prefix}.{kind}", 0) + 1
    return {
        "last_engaged_day": scored.groupby("customer_id")["day"].max(),
        "engagements_90d": pd.Series(counts, dtype=object),
        "touch_cost_365d": _sums(_window(touches[~acquired], 365, as_of_day), "cost_micros"),
        "cost_to_acquire": _sums(touches[acquired], "cost_micros"),
    }


def end_us(log: Log, until: str | int | None) -> int:
    """The as-of time in microseconds: `until`, or that of the last record that is not from the future."""
    if until is None:
        return _last_us(log)
    return time_us(until) if isinstance(until, str) else until


def _last_us(log: Log) -> int:
    """The end of the piece that is the log; pieces are cut where successive records lie over 400 days apart."""
    topics = {"purchases": log.purchases, "engagements": log.engagements, "consents": log.consents}
    rows = pd.concat([frame[["at_us"]].assign(topic=topic) for topic, frame in topics.items()])
    if rows.empty:
        return 0
    rows = rows.sort_values("at_us", kind="stable")
    rows["piece"] = (rows["at_us"].diff() > GAP_US).cumsum()
    weighed = rows[rows["topic"] == "purchases"]
    sizes = (rows if weighed.empty else weighed).groupby("piece").size()
    chosen = sizes[sizes == sizes.max()].index.max()
    return int(rows.loc[rows["piece"] == chosen, "at_us"].max())


def accepted(log: Log, until_us: int) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The records that count up to a time: neither repeated nor from before an erasure."""
    frames = (log.purchases, log.engagements, log.consents)
    purchases, engagements, consents = (frame[frame["at_us"] <= until_us] for frame in frames)
    erased = erased_up_to(consents)
    purchases, engagements, consents = (
        without_repeats(dated_after(frame, erased, BEFORE_ALL_US), REMEMBERED_US[topic])
        for topic, frame in (("purchases", purchases), ("engagements", engagements), ("consents", consents))
    )
    return purchases, engagements, consents


def kept_engagements(
    engagements: pd.DataFrame, consents: pd.DataFrame, terms: Terms, until_us: int
) -> pd.DataFrame:
    """Engagement that may be kept: dated after the last time at which profiling was not allowed."""
    dropped = engagement_dropped_up_to(consents, terms.profiling_allowed_by_default, until_us)
    unspoken = BEFORE_ALL_US if terms.profiling_allowed_by_default else AFTER_ALL_US
    return dated_after(engagements, dropped, unspoken)


def recount(log: Log, model: Mapping[str, Any], until: str | int | None = None) -> dict[str, Aggregates]:
    """The complete `aggregates` object of every customer who has a profile, by customer id, as of `until`.

    Args:
        log: what `read_log` made.
        model: a plain dict with the keys of a model file; `read_terms` says which are used.
        until: the as-of time, RFC 3339 or microseconds since the epoch; later records are ignored. By default
            the time of the log's last record.

    A customer whose every record was erased has no profile. One whose every record was engagement that may
    not be kept has an empty one.
    """
    terms = read_terms(model)
    until_us = end_us(log, until)
    purchases, engagements, consents = accepted(log, until_us)
    customers = sorted({*purchases["customer_id"], *engagements["customer_id"], *consents["customer_id"]})
    engagements = kept_engagements(engagements, consents, terms, until_us)

    as_of_day = until_us // DAY_US
    columns = {
        **purchase_columns(purchases, terms, as_of_day),
        **engagement_columns(engagements, terms, as_of_day),
    }
    values = {name: column.to_dict() for name, column in columns.items()}
    rows = ({name: column.get(customer) for name, column in values.items()} for customer in customers)
    return {
        customer: _aggregates(row, terms.minor_unit_digits)
        for customer, row in zip(customers, rows, strict=True)
    }


def _aggregates(row: Mapping[str, Any], digits: int) -> Aggregates:
    """One customer's row as the contract writes it; None stands where a column does not hold the customer."""

    def money(*names: str) -> str:
        return money_text(sum(int(row[name] or 0) for name in names), digits)

    average = None
    if row["order_count_365d"]:
        average = money_text(Fraction(int(row["counted_total_365d"]), int(row["order_count_365d"])), digits)
    return {
        "first_order_on": date_text(row["first_order_day"]),
        "last_order_on": date_text(row["last_order_day"]),
        "last_engaged_on": date_text(row["last_engaged_day"]),
        "order_count": int(row["order_count"] or 0),
        "purchase_days": int(row["purchase_days"] or 0),
        "revenue": money("revenue"),
        "refunded": money("refunded"),
        "margin": money("margin"),
        "order_count_30d": int(row["order_count_30d"] or 0),
        "order_count_90d": int(row["order_count_90d"] or 0),
        "order_count_365d": int(row["order_count_365d"] or 0),
        "revenue_30d": money("revenue_30d"),
        "revenue_90d": money("revenue_90d"),
        "revenue_365d": money("revenue_365d"),
        "margin_365d": money("margin_365d"),
        "average_order_value_365d": average,
        "engagements_90d": row["engagements_90d"] or {},
        "cost_to_serve_365d": money("touch_cost_365d", "refund_cost_365d"),
        "cost_to_acquire": money("cost_to_acquire"),
    }
