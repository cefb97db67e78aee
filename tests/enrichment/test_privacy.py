"""Consent and erasure: what is shown, what is kept, and what is never kept again."""

from __future__ import annotations

import pytest

from ebbtide.testing.local_stream import LocalStream
from ebbtide.testing.records import consent, day, engagement, erasure, model, order
from enrichment.customer.customer import empty_state
from enrichment.customer.engagement import EngagementState
from enrichment.days import midnight_us
from schemas.profiles import SCORE_NAMES, TRAIT_NAMES
from tests.enrichment.driver import WorkerLikeStream, through_storage

NO_SCORES = dict.fromkeys(SCORE_NAMES)
NO_TRAITS = dict.fromkeys(TRAIT_NAMES)


def denied_partition() -> LocalStream:
    """A customer with orders, engagement and an email grant, who then denies profiling on January 10."""
    partition = LocalStream(model())
    partition.take(
        order("2025-01-01", attributes={"region": "north"}),
        engagement("opened", "2025-01-02", channel="email", attributes={"vertical": "retail"}),
        engagement("declared", "2025-01-03", declared={"budget": "high"}),
        engagement("acquired", "2025-01-03T13:00:00Z", cost="7.00", currency="USD"),
        consent("2025-01-04", "email", True),
        consent("2025-01-10", "profiling", False),
    )
    return partition


def test_a_denial_of_profiling_lets_the_customer_leave() -> None:
    """`left` in every dimension with trigger `consent`; scores and traits null, key by key; permissions stay."""
    partition = denied_partition()
    left = partition.changes[-3:]
    assert [change["dimension"] for change in left] == ["segment", "tier", "lifecycle"]
    for change in left:
        assert (change["direction"], change["current"]) == ("left", None)
        assert change["reason"]["trigger"] == "consent"
        assert (change["scores"], change["traits"]) == (NO_SCORES, NO_TRAITS)
        assert change["previous_scores"]["value"] is not None
        assert change["permissions"] == ["email"]
    profile = partition.profiles["c"]
    assert (profile["scores"], profile["traits"]) == (NO_SCORES, NO_TRAITS)
    assert profile["standing"] == {"segment": None, "tier": None, "lifecycle": None}
    assert profile["consents"] == {"email": True, "profiling": False}


def test_a_denial_deletes_engagement_and_keeps_purchases() -> None:
    """Interactions, declared data, what engagement cost and what it said of the customer."""
    partition = denied_partition()
    aggregates = partition.profiles["c"]["aggregates"]
    assert (aggregates["order_count"], aggregates["revenue"]) == (1, "50.00")
    assert (aggregates["engagements_90d"], aggregates["last_engaged_on"]) == ({}, None)
    assert (aggregates["cost_to_serve_365d"], aggregates["cost_to_acquire"]) == ("0.00", "0.00")
    state = partition.customers["c"].state
    assert state.engagement == EngagementState()
    assert set(state.attributes) == {"purchases"}


def test_while_profiling_is_denied_engagement_is_not_kept_and_purchases_aggregate() -> None:
    """Engagement is accepted and thrown away; nobody enters."""
    partition = denied_partition()
    changes = partition.take(
        engagement("clicked", "2025-01-11", channel="email", attributes={"vertical": "health"}),
        order("2025-01-12", "20.00"),
    )
    assert not changes
    assert partition.outcomes["engagements", "accepted"] == 4
    aggregates = partition.profile()["aggregates"]
    assert (aggregates["order_count"], aggregates["engagements_90d"]) == (2, {})


def test_after_a_new_grant_the_customer_enters_and_only_later_engagement_is_kept() -> None:
    """What is dated before the end of the denied period is never kept again."""
    partition = denied_partition()
    entered = partition.take(consent("2025-01-20", "profiling", True))
    assert [change["direction"] for change in entered] == ["entered"] * 3
    for change in entered:
        assert (change["previous"], change["reason"]["trigger"]) == (None, "consent")
        assert change["previous_scores"] == NO_SCORES
        assert change["reason"]["drivers"] == []
        assert change["traits"]["declared"] == {}
        assert change["traits"]["attributes"] == {"region": "north"}
    assert [change["sequence"] for change in partition.changes[-3:]] == [
        len(partition.changes) - 2,
        len(partition.changes) - 1,
        len(partition.changes),
    ]
    partition.take(
        engagement("opened", "2025-01-05", channel="email"),
        engagement("opened", "2025-01-19T23:00:00Z", channel="email"),
        engagement("opened", "2025-01-20T11:59:59.999999Z", channel="email"),
        engagement("opened", "2025-01-20T12:00:00Z", channel="sms"),
    )
    assert partition.profile()["aggregates"]["engagements_90d"] == {"sms.opened": 1}


def test_a_denial_that_becomes_known_late_deletes_only_what_is_dated_before_its_end() -> None:
    """Attributes and answers alike; oracle: the same records with the denial first."""
    records = [
        order("2025-01-01"),
        consent("2025-01-10", "profiling", True),
        engagement("declared", "2025-01-04", declared={"budget": "low"}, attributes={"vertical": "health"}),
        engagement("declared", "2025-01-12", declared={"size": "large"}, attributes={"region": "north"}),
    ]
    denial = consent("2025-01-05", "profiling", False)
    early, late = LocalStream(model()), LocalStream(model())
    early.take(denial, *records)
    late.take(*records, denial)
    traits = late.profile()["traits"]
    assert (traits["attributes"], traits["declared"]) == ({"region": "north"}, {"size": "large"})
    assert early.profile()["traits"] == traits


@pytest.mark.parametrize("kept", [0, 60_000])
def test_what_a_consent_carries_is_no_reason_to_refuse_it(kept: int) -> None:
    """Beside 60,000 bytes its attributes do not fit and are left out; it holds all the same. So does an erasure."""
    partition = LocalStream(model())
    partition.take(order("2025-01-01", attributes={"note": "x" * kept}))
    partition.take(consent("2025-01-02", "email", False, attributes={"reason": "y" * 6_000}))
    assert partition.profile()["consents"] == {"email": False, "profiling": True}
    assert ("reason" in partition.profile()["traits"]["attributes"]) == (kept == 0)
    partition.take(erasure("2025-01-03", attributes={"reason": "z" * 6_000}))
    assert not partition.customers["c"].is_known
    assert not partition.dead_letters


def test_at_the_same_time_denial_wins() -> None:
    """Whichever comes first, and whatever their ids."""
    for first, second in ((True, False), (False, True)):
        partition = LocalStream(model())
        partition.take(order("2025-01-01"))
        partition.take(
            consent("2025-01-02", "profiling", first, event_id="b"),
            consent("2025-01-02", "profiling", second, event_id="a"),
            consent("2025-01-02", "email", first, event_id="d"),
            consent("2025-01-02", "email", second, event_id="c"),
        )
        assert partition.profile()["consents"] == {"email": False, "profiling": False}


def test_the_latest_consent_of_a_purpose_wins_whenever_it_comes() -> None:
    """By `occurred_at`; consents are never too late."""
    partition = LocalStream(model())
    partition.take(order("2025-01-01"), consent("2025-01-03", "email", False))
    partition.take(consent("2015-01-02", "email", True), consent("2015-01-02", "sms", True))
    assert partition.profile()["consents"] == {"email": False, "profiling": True, "sms": True}
    assert not partition.dead_letters


@pytest.mark.parametrize("expires_at", ["2025-03-09T00:00:00Z", "2025-03-09T17:30:00Z"])
def test_a_grant_with_an_end_returns_to_the_default_at_the_midnight_after_it(expires_at: str) -> None:
    """A channel is not permitted then; also where the end is a midnight itself, it is the next one."""
    partition = LocalStream(model())
    partition.take(order("2025-03-01"), consent("2025-03-02", "email", True, expires_at=expires_at))
    partition.pass_midnight("2025-03-09")
    assert partition.profile()["consents"]["email"] is True
    partition.pass_midnight("2025-03-10")
    assert partition.profile()["consents"]["email"] is False


def test_channels_need_an_explicit_grant() -> None:
    """Nothing said is nothing permitted; purposes that are no channels are no permissions."""
    partition = LocalStream(model(other_purposes=["analytics"]))
    partition.take(
        consent("2025-01-01", "sms", True),
        consent("2025-01-01", "post", False),
        consent("2025-01-01", "analytics", True),
        consent("2025-01-01", "email", True),
    )
    partition.take(order("2025-01-02"))
    assert partition.changes[-1]["permissions"] == ["email", "sms"]


def test_under_opt_in_a_customer_enters_with_the_grant() -> None:
    """Before it there is a profile without scores, and no engagement is kept."""
    partition = LocalStream(model(profiling="opt_in"))
    partition.take(order("2025-01-01"), engagement("opened", "2025-01-01", channel="email"))
    assert not partition.changes
    assert partition.profile()["scores"] == NO_SCORES
    assert partition.profile()["aggregates"]["engagements_90d"] == {}
    changes = partition.take(consent("2025-01-02", "profiling", True))
    assert [change["direction"] for change in changes] == ["entered"] * 3


def test_under_opt_in_a_grant_that_runs_out_lets_the_customer_leave_at_the_midnight_after_it() -> None:
    """With trigger `consent` and no event; the profile published then shows no engagement any more."""
    partition = LocalStream(model(profiling="opt_in"))
    partition.take(
        consent("2025-01-01", "profiling", True, expires_at="2025-01-10T08:00:00Z"),
        order("2025-01-01T13:00:00Z"),
        engagement("declared", "2025-01-02", declared={"budget": "high"}, channel="web"),
    )
    changes = partition.pass_midnight("2025-02-01")
    left = [change for change in changes if change["direction"] == "left"]
    assert len(left) == 3
    for change in left:
        assert change["as_of"] == "2025-01-11T00:00:00Z"
        assert change["reason"] == {"trigger": "consent", "event_id": None, "drivers": []}
    profile = partition.profiles["c"]
    assert profile["as_of"] == "2025-01-11T00:00:00Z"
    assert profile["aggregates"]["engagements_90d"] == {}
    assert profile["aggregates"]["last_engaged_on"] is None
    assert not partition.customers["c"].state.engagement.declared


def test_under_opt_in_engagement_goes_also_where_a_record_is_ahead_of_the_midnight() -> None:
    """A record dated after the end of the grant moves `as_of` past it before the midnight has passed."""
    partition = LocalStream(model(profiling="opt_in"))
    partition.take(
        consent("2025-01-01", "profiling", True, expires_at="2025-01-10T08:00:00Z"),
        engagement("opened", "2025-01-10T20:00:00Z", channel="web"),
    )
    partition.pass_midnight("2025-01-10")
    partition.take(order("2025-01-11T01:00:00Z"))
    assert [change["direction"] for change in partition.changes[-3:]] == ["left"] * 3
    assert partition.profiles["c"]["aggregates"]["engagements_90d"] == {}
    assert not partition.customers["c"].state.engagement.days


def test_an_erasure_ends_a_life_with_three_changes_and_a_tombstone() -> None:
    """Trigger `erasure`, nothing permitted, scores and traits null."""
    partition = LocalStream(model())
    partition.take(order("2025-01-01"), consent("2025-01-02", "email", True))
    last = partition.changes[-1]["sequence"]
    gone = erasure("2025-01-05")
    changes = partition.take(gone)
    assert [change["dimension"] for change in changes] == ["segment", "tier", "lifecycle"]
    assert [change["sequence"] for change in changes] == [last + 1, last + 2, last + 3]
    for change in changes:
        assert change["reason"] == {"trigger": "erasure", "event_id": gone.event_id, "drivers": []}
        assert (change["direction"], change["current"], change["life"]) == ("left", None, 0)
        assert (change["scores"], change["traits"], change["permissions"]) == (NO_SCORES, NO_TRAITS, [])
        assert change["as_of"] == "2025-01-05T12:00:00Z"
    assert partition.published[-1] == ("c", None)
    assert "c" not in partition.profiles
    assert partition.profiles_at(midnight_us(day("2025-02-01"))) == {}


def test_records_dated_up_to_an_erasure_are_dropped_and_later_ones_start_a_new_life() -> None:
    """Sequence restarts at 1, `life` counts the erasures, and ids differ from those of the life before."""
    partition = LocalStream(model())
    partition.take(order("2025-01-01", "99.00", "a"))
    first_life = {change["change_id"] for change in partition.changes}
    partition.take(erasure("2025-01-05T12:00:00Z"))
    assert not partition.take(
        order("2025-01-04", "1.00"),
        order("2025-01-05T12:00:00Z", "2.00"),
        consent("2025-01-03", "email", True),
        engagement("opened", "2025-01-05T11:00:00Z"),
    )
    assert partition.outcomes["purchases", "erased"] == 2
    changes = partition.take(order("2025-01-05T12:00:00.000001Z", "3.00", "a"))
    assert [(change["life"], change["sequence"], change["direction"]) for change in changes] == [
        (1, 1, "entered"),
        (1, 2, "entered"),
        (1, 3, "entered"),
    ]
    assert changes[0]["as_of"] == "2025-01-05T12:00:00.000001Z"
    assert first_life.isdisjoint(change["change_id"] for change in changes)
    assert partition.profile()["aggregates"]["revenue"] == "3.00"
    assert partition.profile()["consents"] == {"profiling": True}


def test_a_record_sent_again_after_an_erasure_is_dropped_and_an_id_may_be_used_again() -> None:
    """The ids of the old life are forgotten with it; its records are known by their time."""
    partition = LocalStream(model())
    old = order("2025-01-01", event_id="e-1")
    partition.take(old, erasure("2025-01-05"))
    partition.take(old, order("2025-01-06", "7.00", event_id="e-1"))
    assert partition.outcomes["purchases", "erased"] == 1
    assert partition.profile()["aggregates"]["revenue"] == "7.00"


def test_an_erasure_within_a_batch_separates_two_lives() -> None:
    """Before, erasure and after in one batch: the same as one by one."""
    events = [order("2025-01-01"), erasure("2025-01-02"), order("2025-01-03"), erasure("2025-01-04")]
    together, apart = WorkerLikeStream(model()), WorkerLikeStream(model(), stored=True)
    together.take(*events)
    for event in events:
        apart.take(event)
    assert together.changes == apart.changes
    assert [change["life"] for change in together.changes] == [0] * 6 + [1] * 6
    assert together.profiles == apart.profiles == {}


def test_nothing_of_an_erased_customer_is_left_in_the_stored_state() -> None:
    """But how often and up to when."""
    partition = denied_partition()
    partition.take(erasure("2025-01-30"))
    state = through_storage(partition.customers["c"]).state
    assert state == empty_state(life=1, erased_up_to_us=erasure("2025-01-30").occurred_at_us)


def test_under_opt_in_the_time_between_two_grants_is_a_denied_period() -> None:
    """After the second grant, engagement dated between the two is not kept, nor what was before."""
    partition = LocalStream(model(profiling="opt_in"))
    partition.take(
        consent("2025-01-01", "profiling", True, expires_at="2025-01-10T08:00:00Z"),
        engagement("opened", "2025-01-09", channel="sms"),
    )
    partition.pass_midnight("2025-01-20")
    partition.take(
        consent("2025-01-20", "profiling", True),
        engagement("opened", "2025-01-08", channel="email"),
        engagement("opened", "2025-01-15", channel="push"),
        engagement("opened", "2025-01-20T12:00:00Z", channel="web"),
    )
    assert partition.profile()["aggregates"]["engagements_90d"] == {"web.opened": 1}


def test_under_opt_in_a_grant_before_the_last_one_has_run_out_goes_on_with_it() -> None:
    """There is no denied period between the two: engagement stays, until the second runs out."""
    partition = LocalStream(model(profiling="opt_in"))
    partition.take(
        consent("2025-01-01", "profiling", True, expires_at="2025-01-10T08:00:00Z"),
        engagement("opened", "2025-01-09", channel="sms"),
        consent("2025-01-10T22:00:00Z", "profiling", True, expires_at="2025-01-20T08:00:00Z"),
    )
    assert not [change for change in partition.pass_midnight("2025-01-20") if change["direction"] == "left"]
    assert partition.profile()["aggregates"]["engagements_90d"] == {"sms.opened": 1}
    left = [change for change in partition.pass_midnight("2025-01-25") if change["direction"] == "left"]
    assert {change["as_of"] for change in left} == {"2025-01-21T00:00:00Z"}


@pytest.mark.parametrize(("today", "permissions"), [("2025-01-19", ["email"]), ("2025-01-20", [])])
def test_a_grant_that_expires_holds_on_the_whole_of_its_last_day(today: str, permissions: list[str]) -> None:
    """It returns to the default at the midnight after `expires_at`, and what is published that day says so."""
    partition = LocalStream(model())
    partition.take(consent("2025-01-04", "email", True, expires_at="2025-01-19T00:00:00Z"))
    changes = partition.take(order(today))
    assert changes
    assert all(change["permissions"] == permissions for change in changes)
