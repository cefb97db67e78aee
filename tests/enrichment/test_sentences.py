"""What the product promises, a sentence at a time."""

from __future__ import annotations

import pytest

from ebbtide.testing.local_stream import LocalStream
from ebbtide.testing.records import cancellation, consent, engagement, model, order, purchase, refund
from schemas.documents import Document

MONTHS = range(1, 13)


def scores(partition: LocalStream, customer_id: str = "c") -> Document:
    """A customer's scores as of now."""
    found: Document = partition.profile(customer_id)["scores"]
    return found


def test_a_small_growing_account_of_high_margin_outranks_a_large_one_of_low_margin() -> None:
    """1,440 a year that grows, at 80% margin, against 6,000 at 1%: by value, segment and tier."""
    partition = LocalStream(model())
    for month in MONTHS:
        price = 16 + 4 * month
        for turn in range(1 + (month - 1) // 3):
            partition.take(
                order(
                    f"2024-{month:02d}-{5 + 5 * turn:02d}",
                    f"{price}.00",
                    customer_id="small",
                    cost_of_goods=f"{price * 0.2:.2f}",
                )
            )
        partition.take(engagement("visited", f"2024-{month:02d}-21", channel="web", customer_id="small"))
        partition.take(order(f"2024-{month:02d}-05", "500.00", customer_id="large", cost_of_goods="495.00"))
        partition.take(engagement("support_contacted", f"2024-{month:02d}-22", customer_id="large"))
    partition.pass_midnight("2024-12-31")
    small, large = partition.profile("small"), partition.profile("large")
    assert float(small["aggregates"]["revenue_365d"]) < float(large["aggregates"]["revenue_365d"]) / 4
    assert small["scores"]["value"] > large["scores"]["value"]
    assert (small["standing"]["segment"], large["standing"]["segment"]) == ("high", "medium")
    assert small["standing"]["tier"] == "strategic"


def test_a_declared_budget_and_growth_plans_lift_a_prospect_before_the_first_purchase() -> None:
    """From `prospect` to `emerging`, by potential alone."""
    partition = LocalStream(model())
    partition.take(engagement("visited", "2025-01-01", channel="web"))
    assert partition.standing() == ("prospect", "inside", "prospect")
    changes = partition.take(
        engagement("declared", "2025-01-20", declared={"budget": "high", "growth_plans": True})
    )
    (change,) = [change for change in changes if change["dimension"] == "segment"]
    assert (change["previous"], change["current"], change["direction"]) == ("prospect", "emerging", "upgrade")
    assert change["reason"]["drivers"][0]["metric"] == "declared_intent"
    assert partition.profile()["aggregates"]["order_count"] == 0


def test_a_customer_who_does_nothing_is_demoted_at_a_midnight() -> None:
    """With trigger `time`, no event, and recency as what drove it."""
    partition = LocalStream(model())
    for date in ("2024-01-05", "2024-02-05", "2024-03-05", "2024-04-05", "2024-05-01"):
        partition.take(order(date, "60.00"))
    assert partition.standing()[0] == "high"
    changes = partition.pass_midnight("2025-06-01")
    demoted = [change for change in changes if change["dimension"] == "segment"]
    assert [change["current"] for change in demoted] == ["medium", "low"]
    lives = [change["current"] for change in changes if change["dimension"] == "lifecycle"]
    assert lives == ["at_risk", "lapsed"]
    for change in changes:
        assert change["as_of"].endswith("T00:00:00Z")
        assert (change["reason"]["trigger"], change["reason"]["event_id"]) == ("time", None)
        assert "recency_days" in {driver["metric"] for driver in change["reason"]["drivers"]}


def test_automated_opens_change_no_score() -> None:
    """Machine opens are counted, and that is all."""
    partition = LocalStream(model())
    partition.take(order("2025-01-01"))
    before = partition.profile()
    for minute in range(10):
        opened = f"2025-01-01T13:{minute:02d}:00Z"
        partition.take(engagement("opened", opened, channel="email", automated=True))
    after = partition.profile()
    assert after["scores"] == before["scores"]
    assert after["traits"]["preferred_channels"] == []
    assert after["aggregates"]["engagements_90d"] == {"automated.opened": 10}
    assert after["aggregates"]["last_engaged_on"] is None
    partition.take(engagement("opened", "2025-01-01T14:00:00Z", channel="email"))
    assert scores(partition)["engagement"] > before["scores"]["engagement"]


def test_engagement_fades_day_by_day() -> None:
    """The same interactions count less a half-life later; oracle: 2^-1 and the model's breakpoints."""
    flat = [[0, 0], [100, 100]]
    metrics = {**model().model_dump()["metrics"]}
    metrics["weighted_engagement_90d"] = {"weight": 1, "missing": 0, "breakpoints": flat}
    metrics["consent_breadth"] = {"weight": 0, "missing": 0, "breakpoints": flat}
    partition = LocalStream(model(metrics=metrics))
    partition.take(engagement("cart_updated", "2025-01-01", channel="web"))  # weight 4
    assert scores(partition)["engagement"] == 4.0
    partition.pass_midnight("2025-01-31")
    assert scores(partition)["engagement"] == 2.0
    partition.pass_midnight("2025-04-01")
    assert scores(partition)["engagement"] == 0.0


def test_a_fully_refunded_order_leaves_the_counts_but_its_money_stays() -> None:
    """Plus on its day, minus on the refund's day, also in past windows."""
    partition = LocalStream(model())
    partition.take(order("2025-01-01", "30.00", "kept"), order("2025-02-01", "200.00", "back"))
    partition.take(refund("2025-03-20", "back", "150.00"))
    assert partition.profile()["aggregates"]["order_count"] == 2
    partition.take(refund("2025-03-21", "back", "50.00"))
    aggregates = partition.profile()["aggregates"]
    assert (aggregates["order_count"], aggregates["purchase_days"]) == (1, 1)
    assert aggregates["last_order_on"] == "2025-01-01"
    assert (aggregates["revenue"], aggregates["refunded"]) == ("30.00", "200.00")
    assert (aggregates["revenue_30d"], aggregates["revenue_90d"]) == ("-200.00", "30.00")
    assert aggregates["average_order_value_365d"] == "30.00"
    assert aggregates["cost_to_serve_365d"] == "10.00"  # two refunds at 5.00


def test_zero_total_orders_count_and_cannot_be_fully_refunded() -> None:
    """A free order is an order."""
    partition = LocalStream(model())
    partition.take(order("2025-01-01", "0.00", "free"), refund("2025-01-02", "free", "0.00"))
    aggregates = partition.profile()["aggregates"]
    assert (aggregates["order_count"], aggregates["average_order_value_365d"]) == (1, "0.00")


def test_an_order_sent_again_is_no_second_order() -> None:
    """Under a new event id it is counted as a duplicate; its later words hold."""
    partition = LocalStream(model())
    partition.take(order("2025-01-01", "10.00", "a"), purchase("order", "2025-01-03", "a", "12.00"))
    assert partition.outcomes["purchases", "duplicate"] == 1
    aggregates = partition.profile()["aggregates"]
    assert (aggregates["order_count"], aggregates["revenue"]) == (1, "12.00")
    assert aggregates["last_order_on"] == "2025-01-01"


def test_an_update_counts_nowhere_until_its_order_comes() -> None:
    """Then with the words of the later record."""
    partition = LocalStream(model())
    partition.take(purchase("order_updated", "2025-01-03", "a", "12.00"))
    before = partition.profile()["aggregates"]
    assert (before["order_count"], before["revenue"]) == (0, "0.00")
    partition.take(order("2025-01-02", "10.00", "a"))
    after = partition.profile()["aggregates"]
    assert (after["order_count"], after["revenue"]) == (1, "12.00")


def test_a_cancellation_voids_an_order_with_its_refunds_and_waits_for_it() -> None:
    """A refund's money counts at once, so that net may be negative until the order comes."""
    partition = LocalStream(model())
    partition.take(refund("2025-01-05", "a", "10.00"), cancellation("2025-01-06", "a"))
    assert partition.profile()["aggregates"]["revenue"] == "-10.00"
    partition.take(order("2025-01-04", "80.00", "a"))
    aggregates = partition.profile()["aggregates"]
    assert (aggregates["order_count"], aggregates["revenue"], aggregates["refunded"]) == (0, "0.00", "0.00")


def test_a_full_refund_is_compared_in_the_currency_of_the_order() -> None:
    """Rounding to the base currency cannot make a refund less than full."""
    partition = LocalStream(model(rates={"JPY": "0.006725"}))
    partition.take(
        order("2025-01-01", "101", "a", currency="JPY"),
        refund("2025-01-02", "a", "33", currency="JPY"),
        refund("2025-01-03", "a", "68", currency="JPY"),
    )
    assert partition.profile()["aggregates"]["order_count"] == 0


@pytest.mark.parametrize(("date", "in_30", "in_365"), [("2025-01-30", 1, 1), ("2025-01-31", 0, 1)])
def test_a_window_ends_with_the_day_of_as_of(date: str, in_30: int, in_365: int) -> None:
    """30 days that end with January 30 begin with January 1."""
    partition = LocalStream(model())
    partition.take(order("2025-01-01T00:00:00Z"))
    partition.pass_midnight(date)
    aggregates = partition.profile()["aggregates"]
    assert (aggregates["order_count_30d"], aggregates["order_count_365d"]) == (in_30, in_365)


def test_a_customer_holds_at_most_64_kib_of_attributes_and_of_answers() -> None:
    """A value that takes another's place, or says the same in another topic, is not counted twice."""
    long, longer = "x" * 33_000, "y" * 40_000
    partition = LocalStream(model())
    partition.take(
        order("2025-01-01", attributes={"note": long}),
        order("2025-01-02", attributes={"note": longer}),
        engagement("declared", "2025-01-03", attributes={"note": longer}, declared={"note": long}),
        engagement("declared", "2025-01-04", declared={"note": longer}),
        consent("2025-01-05", "email", True, attributes={"note": longer}),
    )
    assert not partition.dead_letters
    partition.take(order("2025-01-06", attributes={"other": long}))
    partition.take(engagement("declared", "2025-01-07", declared={"other": long}))
    assert [reason for _, _, reason in partition.dead_letters] == ["OutOfRange", "OutOfRange"]
    traits = partition.profile()["traits"]
    assert (traits["attributes"], traits["declared"]) == ({"note": longer}, {"note": longer})


def test_attributes_and_declared_keep_the_latest_value_per_key() -> None:
    """By `occurred_at`, whatever comes first, over all topics."""
    partition = LocalStream(model())
    partition.take(
        order("2025-01-05", attributes={"region": "north", "vertical": "retail"}),
        engagement("opened", "2025-01-07", attributes={"region": "south"}),
        order("2025-01-06", attributes={"region": "west"}),
        engagement("declared", "2025-01-07", declared={"budget": "high", "urgency": 3}),
        engagement("declared", "2025-01-06", declared={"budget": "low", "company_size": "1-10"}),
    )
    traits = partition.profile()["traits"]
    assert traits["attributes"] == {"region": "south", "vertical": "retail"}
    assert traits["declared"] == {"budget": "high", "company_size": "1-10", "urgency": 3}


def test_costs_lower_value_and_acquisition_is_no_cost_to_serve() -> None:
    """`cost` of its own where a record has one, else the model's unit cost."""
    partition = LocalStream(model())
    partition.take(order("2025-01-01", "100.00"))
    before = scores(partition)
    partition.take(
        engagement("support_contacted", "2025-01-01T13:00:00Z"),
        engagement("support_contacted", "2025-01-01T14:00:00Z", cost="21.50", currency="USD"),
        engagement("acquired", "2025-01-01T15:00:00Z", cost="40.00", currency="USD"),
    )
    aggregates = partition.profile()["aggregates"]
    assert (aggregates["cost_to_serve_365d"], aggregates["cost_to_acquire"]) == ("25.50", "40.00")
    assert scores(partition)["cost"] > before["cost"]
    assert scores(partition)["value"] < before["value"]
