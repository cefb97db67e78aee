"""Re-activation: what starts a trigger, when it falls due, what cancels it, and who is left alone."""

from __future__ import annotations

from typing import Any

import pytest

from ebbtide.testing.local_stream import LocalStream
from ebbtide.testing.records import cancellation, consent, day, engagement, model, order, refund
from enrichment.days import format_day
from enrichment.deciding.reactivation import group_of
from enrichment.model import Model
from schemas.events import Event
from schemas.triggers import ReactivationTrigger
from tests.enrichment.driver import through_storage

DELAYS = {"high": 10, "medium": 10, "emerging": 10, "low": 10, "prospect": 10}


def plain_model(**overrides: Any) -> Model:
    """Ten days from the slip, whoever it is."""
    rules = {"delay_days": DELAYS, "long_tenure_extra_days": 0, "engaged_extra_days": 0, "control_share": 0}
    return model(
        reactivation={**rules, **overrides},
        segments={"high": 60, "medium": 40, "high_churn_risk_limit": 0.30, "emerging_potential": 40},
        lifecycle={"at_risk_churn_risk": 0.45, "lapsed_churn_risk": 0.75, "new_days": 30},
    )


def slipping(rules: Model, *more: Event) -> LocalStream:
    """A customer of five orders who then does nothing; the first slip is on 2024-06-26, to `medium`."""
    partition = LocalStream(rules)
    partition.take(consent("2024-01-01", "email", True), consent("2024-01-01", "sms", True), *more)
    for date in ("2024-01-05", "2024-02-05", "2024-03-05", "2024-04-05", "2024-05-01"):
        partition.take(order(date, "60.00"))
    return partition


def first_slip(partition: LocalStream) -> dict[str, Any]:
    """Pass midnights up to the first downgrade of segment or lifecycle."""
    for today in range(day("2024-05-02"), day("2025-05-01")):
        for change in partition.pass_midnight(today):
            if change["direction"] == "downgrade" and change["dimension"] != "tier":
                return change
    raise AssertionError("no slip")


def test_a_slip_by_time_starts_a_trigger_that_falls_due_after_the_delay() -> None:
    """On a midnight, with the change that started it, the standing then and the permitted channels."""
    partition = slipping(plain_model())
    slip = first_slip(partition)
    assert slip["reason"]["trigger"] == "time"
    partition.pass_midnight(partition.midnight_day + 9)
    assert not partition.triggers
    partition.pass_midnight(partition.midnight_day + 1)
    (trigger,) = partition.triggers
    assert trigger["change_id"] == slip["change_id"]
    assert trigger["as_of"] == trigger["due_at"] == f"{ten_days_after(slip)}T00:00:00Z"
    assert trigger["segment"] == slip["current"]
    assert trigger["channels"] == ["email", "sms"]
    assert trigger["group"] == "treatment"
    ReactivationTrigger.model_validate(trigger)


def ten_days_after(change: dict[str, Any]) -> str:
    """A date."""
    return format_day(day(change["as_of"]) + 10)


WAITING = {"own_return": {"within_days": 14, "above": 0.1}}


def chance_of_return(rules: Model, date: str) -> float:
    """Of the slipping customer, five purchase days from 2024-01-05 to 2024-05-01: a purchase in the next 14 days."""
    unit = rules.lifetime_value.days_per_unit
    first, last = day("2024-01-05"), day("2024-05-01")
    silent = rules.lifetime_value.purchase_model.probability_of_no_purchase(
        14 / unit, 4, (last - first) / unit, (day(date) - first) / unit
    )
    return 1 - float(silent)


def test_who_will_probably_come_back_alone_is_waited_for() -> None:
    """Up to the first midnight on which their chance of a purchase is as low as the model asks; `explain` says when."""
    rules = plain_model(**WAITING)
    partition = slipping(rules)
    slip = first_slip(partition)
    partition.pass_midnight(partition.midnight_day + 10)
    assert partition.triggers == []
    pending = through_storage(partition.customers["c"]).decision.pending
    assert pending is not None
    assert pending.due_day > partition.midnight_day
    partition.pass_midnight("2026-06-01")
    trigger = partition.triggers[0]
    assert trigger["change_id"] == slip["change_id"]
    assert trigger["as_of"] == trigger["due_at"] == f"{format_day(pending.due_day)}T00:00:00Z"
    before = format_day(pending.due_day - 1)
    assert chance_of_return(rules, trigger["as_of"]) <= 0.1 < chance_of_return(rules, before)


def test_whose_chance_is_low_enough_already_is_not_waited_for() -> None:
    """The trigger falls due on the day on which it would without the rule."""
    ways = (plain_model(), plain_model(own_return={"within_days": 14, "above": 0.9}))
    due = []
    for rules in ways:
        partition = slipping(rules)
        first_slip(partition)
        partition.pass_midnight(partition.midnight_day + 10)
        due.append([trigger["as_of"] for trigger in partition.triggers])
    assert due[0] == due[1] != []


def test_who_comes_back_while_waited_for_is_not_written_to() -> None:
    """As with any re-activation that is pending."""
    partition = slipping(plain_model(**WAITING))
    first_slip(partition)
    partition.pass_midnight(partition.midnight_day + 10)
    partition.take(order(format_day(partition.midnight_day), "60.00"))
    assert partition.customers["c"].decision.pending is None


def test_who_never_falls_below_is_looked_at_again_after_400_days() -> None:
    """And is not forgotten: nobody's chance of a purchase is below zero."""
    partition = slipping(plain_model(own_return={"within_days": 365, "above": 0.0}))
    first_slip(partition)
    due_day = partition.midnight_day + 10
    partition.pass_midnight(due_day)
    pending = partition.customers["c"].decision.pending
    assert pending is not None
    assert pending.due_day == due_day + 400
    partition.pass_midnight(due_day + 400)
    again = partition.customers["c"].decision.pending
    assert again is not None
    assert (again.change_id, again.due_day) == (pending.change_id, due_day + 800)


def test_a_model_without_the_rule_means_what_it_meant() -> None:
    """Its fingerprint is the same; with the rule, it is another model."""
    assert plain_model().fingerprint == plain_model(own_return=None).fingerprint
    assert plain_model().fingerprint != plain_model(**WAITING).fingerprint


def test_one_trigger_is_pending_at_a_time() -> None:
    """Later slips within the delay start none of their own; slips after it do."""
    partition = slipping(plain_model(delay_days=dict.fromkeys(DELAYS, 400)))
    slip = first_slip(partition)
    partition.pass_midnight("2026-06-01")
    slips = [c for c in partition.changes if c["direction"] == "downgrade" and c["dimension"] != "tier"]
    assert len(slips) >= 3
    assert [trigger["change_id"] for trigger in partition.triggers] == [slip["change_id"]]


def test_a_downgrade_of_tier_alone_starts_none() -> None:
    """Only segment, and lifecycle to `at_risk` or `lapsed`."""
    partition = slipping(plain_model())
    partition.pass_midnight("2026-06-01")
    started = {trigger["change_id"] for trigger in partition.triggers}
    by_id = {change["change_id"]: change for change in partition.changes}
    assert started
    for change_id in started:
        change = by_id[change_id]
        assert change["dimension"] == "segment" or change["current"] in ("at_risk", "lapsed")


@pytest.mark.parametrize(
    ("event", "cancels"),
    [
        (order("2024-06-30", "1.00"), True),
        (order("2024-06-20", "0.00"), True),
        (engagement("opened", "2024-06-30", channel="email"), True),
        (engagement("opened", "2024-06-30", channel="email", automated=True), False),
        (engagement("delivered", "2024-06-30", channel="email"), False),
        (engagement("support_contacted", "2024-06-30", channel="phone"), False),
        (consent("2024-06-30", "push", True), False),
    ],
    ids=lambda value: getattr(value, "event_id", None),
)
def test_a_counted_order_or_a_scored_engagement_cancels_it(event: Event, cancels: bool) -> None:
    """And nothing else does: not a machine's open, nor a delivery, nor a call for help."""
    partition = slipping(plain_model())
    slip = first_slip(partition)
    partition.take(event)
    partition.customers["c"] = through_storage(partition.customers["c"])
    partition.pass_midnight(partition.midnight_day + 10)
    fired = [trigger["change_id"] for trigger in partition.triggers]
    assert fired == ([] if cancels else [slip["change_id"]])


def test_an_order_known_to_be_cancelled_does_not_cancel_it() -> None:
    """It is not counted."""
    partition = slipping(plain_model())
    first_slip(partition)
    partition.take(cancellation("2024-06-28", "void"), order("2024-06-27", "5.00", "void"))
    partition.pass_midnight(partition.midnight_day + 10)
    assert len(partition.triggers) == 1


def test_consent_is_checked_when_it_falls_due() -> None:
    """What was granted since counts, what was withdrawn since does not."""
    partition = slipping(plain_model())
    first_slip(partition)
    partition.take(consent("2024-06-28", "email", False), consent("2024-06-28", "post", True))
    partition.pass_midnight(partition.midnight_day + 10)
    assert partition.triggers[0]["channels"] == ["post", "sms"]


def test_with_no_permitted_channel_it_is_dropped_and_counted() -> None:
    """A grant that has run out on the day before does not permit."""
    partition = slipping(plain_model())
    first_slip(partition)
    due_day = partition.midnight_day + 10
    partition.take(
        consent("2024-06-28", "email", False),
        consent("2024-06-28", "sms", True, expires_at="2024-07-05T23:00:00Z"),
    )
    assert due_day == day("2024-07-06")
    partition.pass_midnight(due_day)
    assert (partition.triggers, partition.triggers_dropped) == ([], 1)
    assert partition.customers["c"].decision.pending is None


def test_who_leaves_has_none_pending() -> None:
    """A denial of profiling ends it, also where profiling is allowed again before it falls due."""
    partition = slipping(plain_model())
    first_slip(partition)
    partition.take(consent("2024-06-28", "profiling", False), consent("2024-06-29", "profiling", True))
    due_day = partition.midnight_day + 10
    partition.pass_midnight(due_day)
    assert (partition.triggers, partition.triggers_dropped) == ([], 0)


def test_channels_come_best_first() -> None:
    """Those on which the customer engages, then the others by name."""
    partition = slipping(
        plain_model(),
        consent("2024-01-01", "app", True),
        engagement("opened", "2024-05-20", channel="sms"),
        engagement("clicked", "2024-05-21", channel="web"),
        *(
            engagement("opened", f"2024-05-22T{hour:02d}:00:00Z", channel="email", automated=True)
            for hour in range(9)
        ),
    )
    slip = first_slip(partition)
    partition.pass_midnight(partition.midnight_day + 10)
    assert slip["traits"]["preferred_channels"] == ["web", "sms"]
    assert partition.triggers[0]["channels"] == ["sms", "app", "email"]


def test_the_delay_is_longer_for_long_tenure_and_shorter_for_who_engaged_lately() -> None:
    """Ten days; three more from 100 days of tenure on; two fewer with engagement in the last 60 days."""
    rules = plain_model(
        long_tenure_days=100, long_tenure_extra_days=3, engaged_within_days=60, engaged_extra_days=-2
    )
    partition = slipping(rules, engagement("opened", "2024-05-20", channel="email"))
    slip = first_slip(partition)
    pending = partition.customers["c"].decision.pending
    assert pending is not None
    assert pending.due_day == day(slip["as_of"]) + 11


@pytest.mark.parametrize(("triggers", "starts"), [(["time"], False), (["time", "correction"], True)])
def test_a_setting_widens_what_starts_one(triggers: list[str], starts: bool) -> None:
    """A downgrade by a correction (a refund of yesterday) starts none unless the model says so."""
    rules = model(reactivation={"triggers": triggers, "control_share": 0}, hysteresis={"dwell_days": 0})
    partition = LocalStream(rules)
    partition.take(consent("2025-01-01", "email", True), order("2025-01-01", "20.00", "small"))
    partition.take(order("2025-01-02", "900.00", "large"), order("2025-01-03", "900.00", "huge"))
    partition.pass_midnight("2025-01-05")
    changes = partition.take(refund("2025-01-04", "large", "900.00"), refund("2025-01-04", "huge", "900.00"))
    downgraded = [c for c in changes if c["direction"] == "downgrade" and c["dimension"] == "segment"]
    assert {change["reason"]["trigger"] for change in downgraded} == {"correction"}
    assert (partition.customers["c"].decision.pending is not None) == starts


def test_the_control_group_is_a_share_of_customers_by_hash() -> None:
    """A tenth of 20,000, within four standard deviations of a fair draw; the same customer, the same group."""
    rules = model(reactivation={"control_share": 0.1})
    groups = [group_of("test", f"customer-{number}", rules) for number in range(20_000)]
    assert abs(groups.count("control") - 2_000) < 4 * (20_000 * 0.1 * 0.9) ** 0.5
    assert groups == [group_of("test", f"customer-{number}", rules) for number in range(20_000)]
    for share, group in ((0, "treatment"), (1, "control")):
        everyone = model(reactivation={"control_share": share})
        assert {group_of("test", f"customer-{number}", everyone) for number in range(100)} == {group}
