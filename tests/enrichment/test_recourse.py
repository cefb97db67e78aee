"""What would move one customer up: found on copies, and true of the stream."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ebbtide.testing.local_stream import LocalStream
from ebbtide.testing.records import consent, day, engagement, model, order
from enrichment.days import DAY_US, format_day, midnight_us
from enrichment.insight.recourse import recourse
from enrichment.model import Model
from enrichment.scoring.standing import LIFECYCLE, SEGMENT, TIER
from schemas.documents import Document
from schemas.events import Event
from schemas.profiles import DIMENSIONS, Dimension

TODAY = "2024-12-31"
NO_DWELL = {"hysteresis": {"dwell_days": 0}}
PLAIN = model(hysteresis={"dwell_days": 0, "score_margin": 0, "churn_risk_margin": 0})
"""A model whose standings are those of the plain rule at any time."""
REGULAR = tuple(f"2024-{month:02d}-10" for month in range(2, 12))
"""Ten months, the last order seven weeks ago."""


def customer_with(
    *events: Event, used: Model | None = None, amount: str = "6.00", dates: tuple[str, ...] = REGULAR
) -> LocalStream:
    """A customer with an order on each of these days and other records, at the midnight of TODAY."""
    partition = LocalStream(used or model(**NO_DWELL))
    dated = [*(order(date, amount) for date in dates), *events]
    for event in sorted(dated, key=lambda event: event.occurred_at_us):
        partition.pass_midnight(event.occurred_at_us // DAY_US)
        partition.take(event)
    partition.pass_midnight(TODAY)
    return partition


def ways(partition: LocalStream) -> Document:
    """What would move the customer up, as of the last midnight."""
    customer = partition.customers["c"]
    found = recourse(customer, customer.as_of_us(midnight_us(partition.midnight_day)), partition.model)
    assert found is not None
    return found


def only(found: list[Document], **told: Any) -> Document:
    """The one entry that says this."""
    (entry,) = (one for one in found if all(one.get(key) == value for key, value in told.items()))
    return entry


def live_on(partition: LocalStream, events: list[Event]) -> tuple[str | None, ...]:
    """The stream's standing after these records, each on its day."""
    for event in events:
        partition.pass_midnight(event.occurred_at_us // DAY_US)
        partition.take(event)
    return partition.standing()


def every(days: int, times: int) -> list[str]:
    """Dates from TODAY on, the first one today."""
    return [format_day(day(TODAY) + number * days) for number in range(times)]


@pytest.mark.parametrize(
    ("dimension", "told", "dates"),
    [
        ("tier", {"action": "order"}, REGULAR[2:8]),
        ("segment", {"action": "order"}, REGULAR),
        ("tier", {"action": "engagement", "kind": "visited"}, REGULAR),
        ("segment", {"action": "engagement", "kind": "redeemed"}, REGULAR),
    ],
)
def test_the_fewest_records_that_are_said_to_be_enough_are(
    dimension: Dimension, told: dict[str, str], dates: tuple[str, ...]
) -> None:
    """Oracle: the stream, which gets the records on their days; with one record less the standing is not better."""
    at = DIMENSIONS.index(dimension)
    action = only(ways(customer_with(dates=dates))[dimension]["actions"], **told)
    assert action["times"] > 1
    for times in (action["times"], action["times"] - 1):
        days = every(action["every_days"], times)
        partition = customer_with(dates=dates)
        before = partition.standing()[at]
        events = [
            order(date, action["amount"]) if told["action"] == "order" else engagement(told["kind"], date)
            for date in days
        ]
        assert live_on(partition, events)[at] == (before if times < action["times"] else action["standing"])
    assert action["standing"] != before


def test_with_the_action_scores_are_those_of_the_stream() -> None:
    """Value and lifetime value after four orders, each a month after the other; oracle: the stream's profile."""
    action = only(ways(customer_with())["segment"]["actions"], action="order")
    partition = customer_with()
    live_on(partition, [order(date, action["amount"]) for date in every(30, action["times"])])
    profile = partition.profile()
    assert action["until"] == profile["as_of"][:10]
    assert action["value"]["with"] == profile["scores"]["value"]
    lifetime = action["customer_lifetime_value_365d"]["with"]
    assert f"{lifetime:.2f}" == profile["traits"]["customer_lifetime_value_365d"]


def test_without_the_action_a_standing_is_what_silence_makes_of_it() -> None:
    """Oracle: the stream, in which nothing happens until the day of the last record."""
    partition = customer_with()
    actions = [action for way in ways(partition).values() for action in way["actions"] if action["times"] > 1]
    action = max(actions, key=lambda action: action["until"])
    partition.pass_midnight(action["until"])
    assert partition.profile()["scores"]["value"] == action["value"]["without"]


@pytest.mark.parametrize(
    ("told", "event"),
    [
        ({"action": "consent", "channel": "email"}, consent(TODAY, "email", True)),
        (
            {"action": "declare", "key": "budget", "answer": "high"},
            engagement("declared", TODAY, declared={"budget": "high"}),
        ),
    ],
)
def test_an_answer_or_a_consent_that_is_said_to_be_enough_is(told: dict[str, str], event: Event) -> None:
    """Oracle: the stream, which gets the best answer, or consent to the channel that had been refused."""
    partition = customer_with(consent("2024-11-20", "email", False), used=PLAIN, amount="8.00")
    action = only(ways(partition)["tier"]["actions"], **told)
    before = partition.standing()[TIER]
    assert live_on(partition, [event])[TIER] == action["standing"] != before


def test_orders_of_the_size_that_is_said_to_be_enough_are_enough() -> None:
    """Oracle: the same history with orders of that size all along; a cent less than the step before is too little."""
    partition = customer_with(used=PLAIN)
    change = only(ways(partition)["tier"]["changes"], metric="average_order_value_365d")
    assert change["from"] == 6
    enough = customer_with(used=PLAIN, amount=f"{change['to']:.2f}")
    assert enough.standing()[TIER] == change["standing"] != partition.standing()[TIER]
    short = customer_with(used=PLAIN, amount=f"{change['to'] - 0.21:.2f}")
    assert short.standing()[TIER] == partition.standing()[TIER]


def test_so_many_orders_as_are_said_to_be_enough_are_enough() -> None:
    """Oracle: the same history with more orders of the same value, between the first one and 90 days ago."""
    partition = customer_with(used=PLAIN)
    change = only(ways(partition)["segment"]["changes"], metric="order_count_365d")
    assert change["from"] == len(REGULAR)
    for orders in (change["to"], change["to"] - 1):
        more = tuple(
            f"2024-0{3 + number % 5}-{11 + number // 5:02d}" for number in range(orders - len(REGULAR))
        )
        standing = customer_with(used=PLAIN, dates=(*REGULAR, *more)).standing()[SEGMENT]
        assert (standing == change["standing"]) == (orders == change["to"])


def test_an_order_is_tried_with_the_margin_that_the_customer_had_so_far() -> None:
    """Five sixths of the price, where the model would say 30%; oracle: the stream with such an order."""
    fresh = LocalStream(model(**NO_DWELL))
    for date in REGULAR[:4]:
        fresh.pass_midnight(date)
        fresh.take(order(date, "6.00", cost_of_goods="1.00"))
    fresh.pass_midnight(TODAY)
    action = only(ways(fresh)["lifecycle"]["actions"], action="order")
    live_on(fresh, [order(TODAY, action["amount"], cost_of_goods="1.00")])
    assert fresh.profile()["scores"]["value"] == action["value"]["with"]


def test_a_margin_that_is_said_to_be_enough_is_enough() -> None:
    """Oracle: the same orders with a cost of goods that leaves this margin."""
    partition = customer_with(used=PLAIN)
    change = only(ways(partition)["segment"]["changes"], metric="margin_365d")
    margin_rate = change["to"] / (6.0 * len(REGULAR))
    better = LocalStream(PLAIN)
    for date in REGULAR:
        better.pass_midnight(date)
        better.take(order(date, "6.00", cost_of_goods=f"{6 * (1 - margin_rate):.6f}"))
    better.pass_midnight(TODAY)
    assert better.standing()[SEGMENT] == change["standing"] != partition.standing()[SEGMENT]


def test_less_cost_to_serve_is_found_where_cost_keeps_a_customer_down() -> None:
    """Oracle: the same customer without the three contacts with support; and only who costs is told so."""
    calls = [engagement("support_contacted", f"2024-10-{number:02d}") for number in (1, 2, 3)]
    kept_down, free = (customer_with(*events, used=PLAIN, amount="10.00") for events in (calls, []))
    change = only(ways(kept_down)["tier"]["changes"], metric="cost_to_serve_ratio")
    assert 0 <= change["to"] < change["from"] == 0.12  # 3 × 4.00 on 100.00
    assert kept_down.standing()[TIER] != free.standing()[TIER] == change["standing"]
    assert "cost_to_serve_ratio" not in {change["metric"] for change in ways(free)["tier"]["changes"]}


def test_changes_come_with_the_fewest_points_first() -> None:
    """Points of the metric itself, by the model's breakpoints, of which each metric has 100."""
    changes = ways(customer_with())["tier"]["changes"]
    points = [change["points"] for change in changes]
    assert len(points) > 2
    assert points == sorted(points, key=abs)
    assert all(change["from"] != change["to"] for change in changes)


def test_trying_leaves_the_customer_as_they_were() -> None:
    """State, standing and snapshot: an explanation is no event."""
    partition = customer_with(consent("2024-11-20", "email", False))
    customer = partition.customers["c"]
    before, snapshot = msgspec.msgpack.encode(customer.state), customer.snapshot()
    assert any(way["actions"] for way in ways(partition).values())
    assert msgspec.msgpack.encode(customer.state) == before
    assert customer.snapshot() is snapshot


def test_a_prospect_is_told_of_a_first_order_of_the_value_that_the_model_expects() -> None:
    """Gamma-Gamma's mean for the population, p γ ÷ (q − 1): 6.25 × 15.44 ÷ 2.74 = 35.22."""
    found = ways(customer_with(engagement("visited", "2024-12-30"), dates=()))
    action = only(found["lifecycle"]["actions"], action="order")
    assert (action["amount"], action["own_average"], action["times"]) == ("35.22", False, 1)
    assert (found["lifecycle"]["current"], action["standing"]) == ("prospect", "new")
    assert action["customer_lifetime_value_365d"]["without"] is None
    assert action["customer_lifetime_value_365d"]["with"] > 0


def orders_told(partition: LocalStream) -> list[Document]:
    """The orders that would move the customer up in any dimension."""
    return [
        action for way in ways(partition).values() for action in way["actions"] if action["action"] == "order"
    ]


def test_an_order_that_would_be_refused_is_not_told_of() -> None:
    """Three orders of a day, of 4 × 10⁸ each, come to 1.2 × 10⁹ a purchase day, and an order may have 10⁹."""
    for total, told in (("300000000.00", {"900000000.00"}), ("400000000.00", set())):
        partition = LocalStream(PLAIN)
        partition.pass_midnight("2022-01-10")
        partition.take(order("2022-01-10"))
        partition.pass_midnight("2022-01-11")
        partition.take(*(order("2022-01-11", total, f"o{number}") for number in range(3)))
        partition.pass_midnight(TODAY)
        assert {action["amount"] for action in orders_told(partition)} == told
        assert ways(partition)["lifecycle"]["current"] == "lapsed"


@pytest.mark.parametrize("gamma", [1e9, 1e303])
def test_a_model_that_expects_more_than_an_order_may_have_tells_of_none(gamma: float) -> None:
    """Nor is there an error where the expected value has no finite number of micro-units."""
    spend = {**model().lifetime_value.spend.model_dump(), "gamma": gamma}
    prospect = customer_with(
        engagement("visited", "2024-12-30"), used=model(lifetime_value={"spend": spend}, **NO_DWELL), dates=()
    )
    assert ways(prospect)["lifecycle"]["current"] == "prospect"
    assert orders_told(prospect) == []


def test_an_interaction_that_the_customer_is_used_to_comes_before_others() -> None:
    """Done within 90 days, and not by a machine."""
    visited = engagement("visited", "2024-12-01", channel="web")
    prefetched = engagement("clicked", "2024-12-01", channel="email", automated=True)
    actions = ways(customer_with(visited, prefetched, used=PLAIN))["tier"]["actions"]
    usual = [(action["kind"], action["usual"]) for action in actions if action["action"] == "engagement"]
    assert usual[0] == ("visited", True)
    assert ("clicked", False) in usual[1:]
    assert not any(is_usual for _, is_usual in usual[1:])


def test_at_the_top_there_is_nothing_to_move_up_to() -> None:
    """`new` becomes `active` by time alone, and counts as the top too."""
    many = tuple(f"2024-12-{number:02d}" for number in range(10, 31))
    found = ways(customer_with(dates=many, amount="90.00"))
    assert (found["segment"]["current"], found["lifecycle"]["current"]) == ("high", "new")
    for dimension in ("segment", "lifecycle"):
        assert found[dimension]["at_the_top"]
        assert found[dimension]["changes"] == found[dimension]["actions"] == []


def test_whom_only_dwell_holds_is_told_to_move_up_anyway() -> None:
    """Oracle: the stream on the day when the dwell is over."""
    partition = customer_with(used=model(), dates=("2024-12-28",), amount="6.00")
    partition.take(order(TODAY, "300.00"), engagement("redeemed", TODAY), consent(TODAY, "email", True))
    before = partition.standing()
    found = ways(partition)["tier"]
    assert found["moves_up_anyway"] is not None
    assert found["changes"] == found["actions"] == []
    partition.pass_midnight("2025-01-05")
    assert partition.standing()[TIER] == found["moves_up_anyway"] != before[TIER]


def test_who_denies_profiling_is_told_nothing() -> None:
    """Nothing is tried on them at all."""
    partition = customer_with(consent("2024-12-01", "profiling", False))
    assert recourse(partition.customers["c"], midnight_us(day(TODAY)), partition.model) is None


def test_a_lapsed_customer_comes_back_with_one_order() -> None:
    """Lifecycle, by the real churn risk after it; oracle: the stream."""
    partition = customer_with(dates=REGULAR[:4])
    assert partition.standing()[LIFECYCLE] in {"lapsed", "at_risk"}
    action = only(ways(partition)["lifecycle"]["actions"], action="order")
    assert action["times"] == 1
    assert live_on(partition, [order(TODAY, action["amount"])])[LIFECYCLE] == action["standing"]


def test_where_there_is_no_action_to_try_changes_are_told_all_the_same() -> None:
    """Free orders, a model that expects nothing of anyone, and no scored interactions: no error, no action."""
    spend = {**model().lifetime_value.spend.model_dump(), "gamma": 1e-9}
    bare = model(
        engagement={"kinds": {"delivered": {"weight": 0}}}, lifetime_value={"spend": spend}, **NO_DWELL
    )
    found = ways(customer_with(used=bare, amount="0.00"))
    assert not any(way["actions"] for way in found.values())
    assert found["segment"]["changes"]
