"""The oracle itself: tiny logs counted by hand, each for one sentence of the contract."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.oracles.recount import Aggregates, read_log, recount
from tests.oracles.seeded_log import MODEL_OVERRIDES, TOPICS, make_log, write_log

Record = dict[str, Any]

MODEL: dict[str, Any] = {
    "base_currency": "USD",
    "rates": {"EUR": "1.10", "JPY": "0.0065"},
    "cost_ratio": "0.60",
    "cost_per_refund": "5.00",
    "engagement": {
        "kinds": {
            "opened": {"weight": 1},
            "delivered": {"weight": 0, "unit_cost": "0.02"},
            "acquired": {"weight": 0},
        }
    },
}


def purchase(event_id: str, at: str, kind: str, order_id: str, total: str, **more: Any) -> Record:
    return {
        "event_id": event_id,
        "customer_id": "c",
        "occurred_at": at if "T" in at else f"{at}T12:00:00Z",
        "kind": kind,
        "order_id": order_id,
        "currency": "USD",
        "total": total,
        **more,
    }


def engagement(event_id: str, at: str, kind: str, **more: Any) -> Record:
    at = at if "T" in at else f"{at}T12:00:00Z"
    return {"event_id": event_id, "customer_id": "c", "occurred_at": at, "kind": kind, **more}


def consent(event_id: str, at: str, granted: bool, **more: Any) -> Record:
    return engagement(event_id, at, "consent", purpose="profiling", granted=granted, **more)


def count(
    purchases: list[Record] | None = None,
    engagements: list[Record] | None = None,
    consents: list[Record] | None = None,
    until: str | None = "2025-06-30T18:00:00Z",
    **overrides: Any,
) -> Aggregates:
    """The recount of the one customer of these tests."""
    log = read_log(purchases or [], engagements or [], consents or [])
    return recount(log, {**MODEL, **overrides}, until)["c"]


def pick(aggregates: Aggregates, names: str) -> list[Any]:
    return [aggregates[name] for name in names.split()]


def test_one_order_fills_every_aggregate() -> None:
    """Every key is always there; by hand, for one order of 100.00 with the model's cost ratio of 0.60."""
    assert count([purchase("e1", "2025-06-29", "order", "o1", "100.00")]) == {
        "first_order_on": "2025-06-29",
        "last_order_on": "2025-06-29",
        "last_engaged_on": None,
        "order_count": 1,
        "purchase_days": 1,
        "revenue": "100.00",
        "refunded": "0.00",
        "margin": "40.00",
        "order_count_30d": 1,
        "order_count_90d": 1,
        "order_count_365d": 1,
        "revenue_30d": "100.00",
        "revenue_90d": "100.00",
        "revenue_365d": "100.00",
        "margin_365d": "40.00",
        "average_order_value_365d": "100.00",
        "engagements_90d": {},
        "cost_to_serve_365d": "0.00",
        "cost_to_acquire": "0.00",
    }


def test_windows_are_utc_days_that_end_with_the_day_of_as_of() -> None:
    """A window of 30 days at June 30 is June 1 to 30, whatever the time of day; days are UTC days."""
    found = count(
        [
            purchase("e1", "2025-06-01T00:00:00Z", "order", "o1", "1"),
            purchase("e2", "2025-05-31T23:59:59.999999Z", "order", "o2", "2"),
            purchase("e3", "2025-06-01T01:00:00+02:00", "order", "o3", "4"),
            purchase("e4", "2025-06-30T18:00:00.000001Z", "order", "o4", "8"),
        ]
    )
    assert pick(found, "order_count_30d revenue_30d order_count_90d revenue_90d order_count") == [
        1,
        "1.00",
        3,
        "7.00",
        3,
    ]


def test_the_same_event_id_again_is_a_duplicate() -> None:
    """The same `event_id` again of a customer in a topic is dropped; the first in replay order counts."""
    first = purchase("e1", "2025-06-01", "order", "o1", "10")
    other = purchase("e1", "2025-06-02", "order", "o2", "20")
    assert pick(count([other, first, first]), "order_count revenue") == [1, "10.00"]
    in_another_topic = count([first], [engagement("e1", "2025-06-01", "opened", channel="email")])
    assert pick(in_another_topic, "order_count engagements_90d") == [1, {"email.opened": 1}]


def test_an_event_id_is_forgotten_when_its_record_would_be_too_late() -> None:
    """An id is remembered for as long as that topic's records are not too late: engagement for 30 days."""
    first = engagement("e1", "2025-05-01", "opened")
    assert count([], [first, engagement("e1", "2025-05-31", "opened")])["engagements_90d"] == {
        "none.opened": 1
    }
    assert count([], [first, engagement("e1", "2025-06-01", "opened")])["engagements_90d"] == {
        "none.opened": 2
    }


def test_records_of_one_order_are_one_order() -> None:
    """Its day is that of the earliest `order`, its total and cost those of the latest (time, id) version."""
    found = count(
        [
            purchase("e1", "2025-06-10", "order", "o1", "10", cost_of_goods="1"),
            purchase("e9", "2025-06-12", "order_updated", "o1", "30", cost_of_goods="12"),
            purchase("e2", "2025-06-12", "order_updated", "o1", "20", cost_of_goods="2"),
            purchase("e4", "2025-06-05", "order", "o1", "40"),
        ]
    )
    assert pick(found, "order_count first_order_on last_order_on revenue margin") == [
        1,
        "2025-06-05",
        "2025-06-05",
        "30.00",
        "18.00",
    ]


def test_an_update_counts_nowhere_until_its_order_comes() -> None:
    """An `order_updated` counts nowhere until its `order` comes."""
    update = purchase("e1", "2025-06-10", "order_updated", "o1", "10")
    assert pick(count([update]), "order_count revenue first_order_on") == [0, "0.00", None]
    order = purchase("e2", "2025-06-09", "order", "o1", "99")
    assert pick(count([update, order]), "order_count revenue first_order_on") == [1, "10.00", "2025-06-09"]


def test_a_refund_of_an_order_not_seen_counts_at_once() -> None:
    """A refund's money counts at once, a cancellation waits for its order; net may be negative."""
    records = [
        purchase("e1", "2025-06-10", "refund", "o1", "10", cost_of_goods="3"),
        purchase("e2", "2025-06-10", "cancellation", "o1", "10"),
    ]
    names = "order_count revenue refunded margin revenue_30d cost_to_serve_365d"
    assert pick(count(records), names) == [0, "-10.00", "10.00", "-7.00", "-10.00", "5.00"]
    records.append(purchase("e3", "2025-06-09", "order", "o1", "10"))
    assert pick(count(records), names) == [0, "0.00", "0.00", "0.00", "0.00", "0.00"]


def test_a_cancellation_voids_its_order_and_its_refunds() -> None:
    """A cancellation voids its order from the order's own day on, together with its refunds."""
    found = count(
        [
            purchase("e1", "2025-06-01", "order", "o1", "10"),
            purchase("e2", "2025-06-02", "refund", "o1", "4"),
            purchase("e3", "2025-06-03", "cancellation", "o1", "10"),
            purchase("e4", "2025-06-04", "order", "o2", "7"),
        ]
    )
    names = "order_count first_order_on revenue refunded margin cost_to_serve_365d"
    assert pick(found, names) == [1, "2025-06-04", "7.00", "0.00", "2.80", "0.00"]


def test_a_full_refund_leaves_the_counts_and_its_money_stays() -> None:
    """A fully refunded order leaves every count; money: plus on its day, minus on the refund's day."""
    found = count(
        [
            purchase("e1", "2025-05-01", "order", "o1", "10"),
            purchase("e2", "2025-05-02", "refund", "o1", "4"),
            purchase("e3", "2025-06-29", "refund", "o1", "6"),
        ]
    )
    assert pick(found, "order_count order_count_365d purchase_days first_order_on") == [0, 0, 0, None]
    assert pick(found, "revenue revenue_30d revenue_90d refunded") == ["0.00", "-6.00", "0.00", "10.00"]
    assert found["average_order_value_365d"] is None
    assert found["cost_to_serve_365d"] == "10.00"


def test_a_partial_refund_leaves_the_order_counted_and_its_average_gross() -> None:
    """`average_order_value_365d` = totals of counted orders before refunds ÷ their count."""
    found = count(
        [
            purchase("e1", "2025-06-01", "order", "o1", "10"),
            purchase("e2", "2025-06-02", "refund", "o1", "9.99"),
            purchase("e3", "2025-06-02", "order", "o2", "0.00"),
            purchase("e4", "2025-06-03", "refund", "o2", "1"),
        ]
    )
    names = "order_count purchase_days revenue average_order_value_365d"
    assert pick(found, names) == [2, 2, "-0.99", "5.00"]


def test_refunds_are_compared_in_the_orders_currency() -> None:
    """99.99 of 100 JPY is no full refund, although the rest is nothing in base cents; 100 is."""
    order = purchase("e1", "2025-06-01", "order", "o1", "100", currency="JPY")
    partial = purchase("e2", "2025-06-02", "refund", "o1", "99.99", currency="JPY")
    rest = purchase("e3", "2025-06-02", "refund", "o1", "0.01", currency="JPY")
    assert pick(count([order, partial]), "order_count revenue") == [1, "0.00"]
    assert pick(count([order, partial, rest]), "order_count revenue") == [0, "0.00"]


@pytest.mark.parametrize(
    ("day", "counted", "revenue_365d"), [("2025-04-05", 0, "-10.00"), ("2025-04-06", 1, "-10.00")]
)
def test_a_refund_after_400_days_changes_money_only(day: str, counted: int, revenue_365d: str) -> None:
    """2025-04-05 is 400 days after 2024-03-01: a full refund takes the order out then, not a day later."""
    found = count(
        [purchase("e1", "2024-03-01", "order", "o1", "10"), purchase("e2", day, "refund", "o1", "10")]
    )
    assert pick(found, "order_count revenue revenue_365d refunded") == [
        counted,
        "0.00",
        revenue_365d,
        "10.00",
    ]
    assert found["first_order_on"] == ("2024-03-01" if counted else None)
    assert found["cost_to_serve_365d"] == "5.00"


def test_a_cancellation_after_400_days_changes_money_only() -> None:
    """It takes the order's money and its refunds' away; the order stays in counts and order days."""
    found = count(
        [
            purchase("e1", "2024-03-01", "order", "o1", "10"),
            purchase("e2", "2025-04-01", "refund", "o1", "4"),
            purchase("e3", "2025-04-06", "cancellation", "o1", "10"),
        ]
    )
    names = "order_count first_order_on revenue refunded margin cost_to_serve_365d"
    assert pick(found, names) == [1, "2024-03-01", "0.00", "0.00", "0.00", "0.00"]


def test_an_update_after_400_days_changes_money_only() -> None:
    """A late total of 4 makes no full refund of the 5 that were paid back: 10 was the total that counts."""
    found = count(
        [
            purchase("e1", "2024-03-01", "order", "o1", "10"),
            purchase("e2", "2024-03-02", "refund", "o1", "5"),
            purchase("e3", "2025-04-06", "order_updated", "o1", "4", cost_of_goods="1"),
        ]
    )
    assert pick(found, "order_count revenue margin") == [1, "-1.00", "1.00"]


def test_money_is_converted_per_record_and_rounded_half_even_once() -> None:
    """0.000077 JPY at 0.0065 are 0.5005 micro-units, so 1 a record; 0.125 and 0.135 USD are 0.12 and 0.14."""
    yen = [purchase(f"e{n}", "2025-06-01", "order", f"o{n}", "0.000077", currency="JPY") for n in range(3)]
    # 3 micro-units and 4,997 are half a cent, and 0 is even; converted as a sum they would be 1.5 and less.
    assert count(yen)["revenue"] == "0.00"
    assert count([*yen, purchase("e9", "2025-06-01", "order", "o9", "0.004997")])["revenue"] == "0.00"
    assert count([*yen, purchase("e9", "2025-06-01", "order", "o9", "0.004998")])["revenue"] == "0.01"
    assert count([purchase("e1", "2025-06-01", "order", "o1", "0.125")])["revenue"] == "0.12"
    assert count([purchase("e1", "2025-06-01", "order", "o1", "0.135")])["revenue"] == "0.14"
    assert count([purchase("e1", "2025-06-01", "order", "o1", "10", currency="EUR")])["revenue"] == "11.00"


def test_output_has_the_base_currencys_minor_unit() -> None:
    """A yen has no smaller coin: 0.5 and 1.5 are 0 and 2, half-even."""
    half = [purchase("e1", "2025-06-01", "order", "o1", "0.5", currency="JPY")]
    one_and_a_half = [purchase("e1", "2025-06-01", "order", "o1", "1.5", currency="JPY")]
    assert count(half, base_currency="JPY", rates={})["revenue"] == "0"
    assert count(one_and_a_half, base_currency="JPY", rates={})["revenue"] == "2"


def test_missing_cost_of_goods_is_the_models_ratio() -> None:
    """A refund takes back its own `cost_of_goods`, else `cost_ratio` × refund."""
    order = purchase("e1", "2025-06-01", "order", "o1", "100", cost_of_goods="30")
    told = purchase("e2", "2025-06-02", "refund", "o1", "10", cost_of_goods="0")
    untold = purchase("e2", "2025-06-02", "refund", "o1", "10")
    assert pick(count([order]), "margin margin_365d") == ["70.00", "70.00"]
    assert pick(count([order, told]), "margin margin_365d") == ["60.00", "60.00"]
    assert pick(count([order, untold]), "margin margin_365d") == ["66.00", "66.00"]


def test_engagement_is_counted_by_channel_and_kind() -> None:
    """Keyed `channel.kind`, `none.kind` without channel, `automated.kind` for automated ones."""
    found = count(
        [],
        [
            engagement("e1", "2025-06-01", "opened", channel="email"),
            engagement("e2", "2025-06-02", "opened", channel="email"),
            engagement("e3", "2025-06-03", "opened"),
            engagement("e4", "2025-06-04", "opened", channel="email", automated=True),
            engagement("e5", "2025-06-05", "delivered", channel="sms"),
            engagement("e6", "2025-04-01", "opened", channel="email"),
        ],
    )
    assert found["engagements_90d"] == {
        "email.opened": 2,
        "none.opened": 1,
        "automated.opened": 1,
        "sms.delivered": 1,
    }
    # Not the automated one of June 4, nor `delivered`, whose weight is 0.
    assert found["last_engaged_on"] == "2025-06-03"


def test_costs_are_those_of_the_records_or_the_models_unit_costs() -> None:
    """To serve: `cost`, or the unit cost, of all kinds but `acquired`; to acquire: `cost` of `acquired`."""
    found = count(
        [],
        [
            engagement("e1", "2025-06-01", "delivered"),
            engagement("e2", "2025-06-01", "delivered", cost="1.00", currency="EUR"),
            engagement("e3", "2025-06-01", "opened", cost="0.5", currency="USD", automated=True),
            engagement("e4", "2020-01-01", "acquired", cost="20", currency="USD"),
            engagement("e5", "2024-06-30", "delivered", cost="9", currency="USD"),
        ],
    )
    assert pick(found, "cost_to_serve_365d cost_to_acquire") == ["1.62", "20.00"]


OPENED = [engagement(f"e{n}", f"2025-06-{n:02d}", "opened", channel="email") for n in range(1, 10)]


@pytest.mark.parametrize(
    ("consents", "kept"),
    [
        ([], 9),
        ([consent("a", "2025-06-05", False)], 0),
        ([consent("a", "2025-06-05", False), consent("b", "2025-06-07", True)], 3),
        ([consent("b", "2025-06-05", False), consent("a", "2025-06-05", True)], 0),
        ([consent("a", "2025-06-05", False), consent("b", "2025-06-05", True)], 0),
        ([consent("a", "2025-06-02", False), consent("b", "2025-06-04T12:00:00.000001Z", True)], 5),
        ([consent("a", "2025-06-02", True), consent("b", "2025-06-04", True)], 9),
    ],
)
def test_a_denial_deletes_what_is_dated_before_its_end(consents: list[Record], kept: int) -> None:
    """Of engagement at noon of June 1 to 9, what is dated before the latest denied period's end is gone."""
    found = count([purchase("p", "2025-06-01", "order", "o", "5")], OPENED, consents)
    assert found["engagements_90d"] == ({"email.opened": kept} if kept else {})
    assert pick(found, "order_count last_engaged_on") == [1, "2025-06-09" if kept else None]


@pytest.mark.parametrize(
    ("consents", "until", "kept"),
    [
        ([], "2025-06-30T00:00:00Z", 0),
        ([consent("a", "2025-06-03", True)], "2025-06-30T00:00:00Z", 7),
        ([consent("a", "2025-06-03", True, expires_at="2025-06-08T09:00:00Z")], "2025-06-08T23:59:59Z", 6),
        ([consent("a", "2025-06-03", True, expires_at="2025-06-08T09:00:00Z")], "2025-06-09T00:00:00Z", 0),
    ],
)
def test_profiling_may_need_a_grant(consents: list[Record], until: str, kept: int) -> None:
    """`opt_in` keeps nothing until granted; a grant returns to the default at the midnight after expiry."""
    found = count([], OPENED, consents, until, profiling="opt_in")
    assert found["engagements_90d"] == ({"email.opened": kept} if kept else {})


def test_an_expired_grant_leaves_an_earlier_denial_behind() -> None:
    """A grant with `expires_at` returns to the default, allowed with `opt_out`, not to the denial."""
    grant = consent("b", "2025-06-04", True, expires_at="2025-06-05T12:00:00Z")
    found = count([], OPENED, [consent("a", "2025-06-02", False), grant])
    assert found["engagements_90d"] == {"email.opened": 6}


def test_erasure_deletes_everything_up_to_it() -> None:
    """Every record dated up to it goes, whatever its topic; a later record starts a new life."""
    erasure = engagement("x", "2025-06-05", "erasure")
    orders = [purchase(f"p{n}", f"2025-06-{n:02d}", "order", f"o{n}", "1") for n in range(3, 8)]
    found = count(orders, OPENED, [consent("a", "2025-06-04", False), erasure])
    names = "first_order_on order_count revenue engagements_90d"
    assert pick(found, names) == ["2025-06-06", 2, "2.00", {"email.opened": 4}]
    log = read_log(orders[:3], OPENED[:5], [erasure])
    assert recount(log, MODEL, "2025-06-30T00:00:00Z") == {}
    # Before the erasure, everything is still there.
    assert recount(log, MODEL, "2025-06-05T11:59:59Z")["c"]["order_count"] == 2


def test_an_erased_event_id_may_come_again() -> None:
    """Erasure deletes everything held, remembered ids too."""
    erasure = engagement("x", "2025-06-05", "erasure")
    orders = [
        purchase("p", "2025-06-01", "order", "o1", "1"),
        purchase("p", "2025-06-06", "order", "o2", "2"),
    ]
    assert pick(count(orders, [], [erasure]), "order_count revenue") == [1, "2.00"]


@pytest.mark.parametrize("seed", range(3))
def test_a_seeded_log_is_the_same_for_a_seed_and_holds_every_kind(seed: int) -> None:
    """A log has every kind of record, repeats word for word, and purchases in three currencies."""
    log = make_log(seed)
    assert log == make_log(seed)
    assert log != make_log(seed + 100)
    kinds = Counter(record["kind"] for topic in TOPICS for record in log[topic])
    assert set(kinds) == {
        *("order", "order_updated", "refund", "cancellation", "consent", "erasure"),
        *MODEL_OVERRIDES["engagement"]["kinds"],
    }
    assert {record["currency"] for record in log["purchases"]} == {"USD", "EUR", "JPY"}
    for topic in TOPICS:
        words = {record["event_id"]: record for record in log[topic]}
        assert len(words) < len(log[topic])
        assert all(words[record["event_id"]] == record for record in log[topic])


def test_the_recount_of_a_log_does_not_depend_on_the_order_of_its_lines(tmp_path: Any) -> None:
    """The same set of records gives the same aggregates, from files as from lists, last line first."""
    log = make_log(7, events=800)
    from_lists = recount(read_log(*(log[topic] for topic in TOPICS)), MODEL_OVERRIDES)
    paths = write_log({topic: log[topic][::-1] for topic in TOPICS}, tmp_path)
    assert recount(read_log(*(paths[topic] for topic in TOPICS)), MODEL_OVERRIDES) == from_lists
    assert len(from_lists) > 30


@pytest.mark.parametrize("switch", ["privacy", "erasure", "duplicates", "late_money", "disorder"])
def test_a_seeded_logs_difficulties_can_be_left_out(switch: str) -> None:
    """Without privacy nobody denies, without erasure nobody is erased; ids may be unique."""
    log = make_log(5, **{switch: False})  # type: ignore[arg-type]  # every switch is a boolean
    purposes = {record.get("purpose", "erasure") for record in log["consents"]}
    assert ("erasure" in purposes) == (switch not in ("privacy", "erasure"))
    assert ("profiling" in purposes) == (switch != "privacy")
    ids = [record["event_id"] for topic in TOPICS for record in log[topic]]
    assert (len(set(ids)) == len(ids)) == (switch == "duplicates")


def test_a_consent_is_known_by_event_id_purpose_and_granted() -> None:
    """A denial under a grant's event id counts, an erasure too; the same denial again does not."""
    opened = [engagement("o", "2025-06-01", "opened")]
    grant, denial = consent("e", "2025-05-01", True), consent("e", "2025-06-02", False)
    assert count([], opened, [grant])["engagements_90d"] == {"none.opened": 1}
    assert count([], opened, [grant, denial])["engagements_90d"] == {}
    later = [consent("f", "2025-06-03", True), consent("e", "2025-06-04", False)]
    touched = [*opened, engagement("p", "2025-06-05", "opened")]
    assert count([], touched, [grant, denial, *later])["engagements_90d"] == {"none.opened": 1}
    erased = engagement("e", "2025-06-02", "erasure")
    assert count([], touched, [grant, erased])["engagements_90d"] == {"none.opened": 1}


def test_the_log_is_the_piece_with_most_purchases() -> None:
    """Pieces lie over 400 days apart; what comes later is from the future, what came earlier counts."""
    few = [purchase(f"e{day}", f"2020-01-0{day}", "order", f"o{day}", "1") for day in (1, 2)]
    one = [purchase("early", "1970-01-01", "order", "early", "1")]
    later = [purchase("late", "2021-02-06T12:00:00.000001Z", "order", "late", "1")]
    assert count([*one, *few, *later], until=None)["order_count"] == 3
    assert count([*one, *few, *later, *few], until="2025-01-01T00:00:00Z")["order_count"] == 4
    assert count([few[0], *later], until=None)["order_count"] == 2
    near = [purchase("near", "2021-02-05T12:00:00Z", "order", "near", "1")]
    assert count([*few, *near], until=None)["order_count"] == 3
