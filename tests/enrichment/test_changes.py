"""Segment changes: what they say of before and after, why, and how they are numbered."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from ebbtide.testing.local_stream import LocalStream
from ebbtide.testing.records import consent, engagement, erasure, model, order, refund
from enrichment.days import format_day
from enrichment.deciding import drivers
from enrichment.identity import change_id
from enrichment.model import Model
from schemas.changes import LEVELS, SegmentChange
from schemas.profiles import DIMENSIONS, CustomerProfile
from schemas.triggers import ReactivationTrigger
from tests.enrichment.driver import SEEDED_MODEL, in_arrival_order
from tests.enrichment.test_batches import MODELS
from tests.oracles.seeded_log import make_log

Document = dict[str, Any]


@pytest.fixture(scope="module", params=["default", "lively opt_in"])
def played(request: pytest.FixtureRequest, random_seed: int) -> LocalStream:
    """A log with everything in it, played to its end."""
    log = make_log(random_seed, customers=12, days=600, events=700)
    partition = LocalStream(MODELS[request.param]).play(in_arrival_order(log, random_seed))
    today = format_day(partition.midnight_day)
    partition.take(
        order(f"{today}T01:00:00Z", customer_id="x"),
        consent(f"{today}T02:00:00Z", "profiling", True, customer_id="x"),
        consent(f"{today}T03:00:00Z", "profiling", False, customer_id="x"),
        consent(f"{today}T04:00:00Z", "profiling", True, customer_id="x"),
        erasure(f"{today}T05:00:00Z", customer_id="x"),
        consent(f"{today}T06:00:00Z", "profiling", True, customer_id="x"),
        engagement("visited", f"{today}T07:00:00Z", customer_id="x"),
        order(f"{today}T08:00:00Z", "5000.00", customer_id="x"),
        refund(f"{today}T09:00:00Z", f"order/{today}T08:00:00Z", "5000.00", customer_id="x"),
    )
    return partition


def evaluations(partition: LocalStream) -> dict[tuple[str, int], list[list[Document]]]:
    """Per customer and life, the changes of one evaluation together, in order."""
    lives: dict[tuple[str, int], list[list[Document]]] = {}
    for change in partition.changes:
        life = lives.setdefault((change["customer_id"], change["life"]), [])
        same = life and all(
            life[-1][0][name] == change[name] for name in ("as_of", "reason", "scores", "previous_scores")
        )
        first = DIMENSIONS.index(change["dimension"]) <= (
            DIMENSIONS.index(life[-1][-1]["dimension"]) if life else -1
        )
        if same and not first:
            life[-1].append(change)
        else:
            life.append([change])
    return lives


def test_sequences_have_no_gap_and_previous_is_the_last_current(played: LocalStream) -> None:
    """From 1 in every life; in each dimension one change takes up where the last one ended."""
    assert {life for _, life in evaluations(played)} > {0}
    for life in evaluations(played).values():
        changes = list(itertools.chain.from_iterable(life))
        assert [change["sequence"] for change in changes] == list(range(1, len(changes) + 1))
        current: dict[str, str | None] = dict.fromkeys(DIMENSIONS)
        for change in changes:
            assert change["previous"] == current[change["dimension"]]
            assert change["current"] != change["previous"]
            current[change["dimension"]] = change["current"]


def test_change_ids_are_unique_and_functions_of_what_they_identify(played: LocalStream) -> None:
    """Namespace, customer, life, dimension and sequence."""
    ids = [change["change_id"] for change in played.changes]
    assert len(set(ids)) == len(ids) > 30
    for change in played.changes:
        parts = (change[name] for name in ("customer_id", "life", "dimension", "sequence"))
        assert change["change_id"] == change_id("test", *parts)


def test_ids_of_other_namespaces_and_of_ids_that_run_together_differ() -> None:
    """The parts are kept apart, whatever characters they hold."""
    ids = {
        change_id("a", "b", 0, "segment", 1),
        change_id("a2", "b", 0, "segment", 1),
        change_id("a", "b", 1, "segment", 1),
        change_id("a", "b", 0, "tier", 1),
        change_id("a", "b", 0, "segment", 11),
        change_id('a","b', "", 0, "segment", 1),
    }
    assert len(ids) == 6


def test_changes_of_one_evaluation_come_in_order_and_share_their_baseline(played: LocalStream) -> None:
    """Segment, tier, lifecycle; `previous_scores` are the scores of the last evaluation that brought a change."""
    for life in evaluations(played).values():
        baseline: Document = dict.fromkeys(("business", "engagement", "cost", "potential", "value"))
        for changes in life:
            at = [DIMENSIONS.index(change["dimension"]) for change in changes]
            assert at == sorted(set(at))
            assert all(change["previous_scores"] == baseline for change in changes)
            baseline = changes[0]["scores"]


def test_direction_follows_from_the_levels(played: LocalStream) -> None:
    """`entered` from null, `left` to null, else by the place from the top; who enters or leaves does so in all."""
    seen = set()
    for life in evaluations(played).values():
        for changes in life:
            for change in changes:
                levels = LEVELS[change["dimension"]]
                seen.add(change["direction"])
                if change["direction"] in ("entered", "left"):
                    assert len(changes) == 3
                    assert change["reason"]["drivers"] == []
                    assert (change["direction"] == "entered") == (change["previous"] is None)
                    assert (change["direction"] == "left") == (change["current"] is None)
                else:
                    up = levels.index(change["current"]) < levels.index(change["previous"])
                    assert change["direction"] == ("upgrade" if up else "downgrade")
    assert seen == {"entered", "left", "upgrade", "downgrade"}


def test_listed_drivers_are_large_enough_and_the_largest_comes_first(played: LocalStream) -> None:
    """At least 0.05 points of value either way."""
    for change in played.changes:
        effects = [abs(driver["effect_on_value"]) for driver in change["reason"]["drivers"]]
        assert effects == sorted(effects, reverse=True)
        assert all(effect >= 0.05 for effect in effects)


def test_all_effects_add_up_to_the_change_in_value(random_seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With no effect too small to be listed; oracle: `value` less the value of `previous_scores`."""
    monkeypatch.setattr(drivers, "MIN_LISTED_EFFECT", 0.0)
    log = make_log(random_seed, customers=6, days=400, events=250)
    partition = LocalStream(MODELS["lively"]).play(in_arrival_order(log, random_seed))
    moved = [change for change in partition.changes if change["direction"] in ("upgrade", "downgrade")]
    assert moved
    for change in moved:
        total = sum(driver["effect_on_value"] for driver in change["reason"]["drivers"])
        assert total == pytest.approx(
            change["scores"]["value"] - change["previous_scores"]["value"], abs=1e-5
        )


def test_everything_published_is_as_the_schemas_say(played: LocalStream) -> None:
    """Changes, triggers and profiles: every key, in its order, of its type; nothing is NaN."""
    for change in played.changes:
        assert list(SegmentChange.model_validate(change).model_dump()) == list(change)
    for trigger in played.triggers:
        assert list(ReactivationTrigger.model_validate(trigger).model_dump()) == list(trigger)
    assert len(played.published) > 300
    for _, profile in played.published:
        if profile is not None:
            assert CustomerProfile.model_validate(profile).model_dump() == profile


def test_a_profile_comes_with_every_change_and_with_the_first_event_of_a_utc_day() -> None:
    """A second event of a day that changes nothing brings none."""
    partition = LocalStream(model())
    partition.take(engagement("opened", "2025-01-01T08:00:00Z", channel="email"))
    partition.take(engagement("opened", "2025-01-01T09:00:00Z", channel="email"))
    partition.take(engagement("opened", "2025-01-02T00:00:00Z", channel="email"))
    assert [profile and profile["as_of"] for _, profile in partition.published] == [
        "2025-01-01T08:00:00Z",
        "2025-01-02T00:00:00Z",
    ]
    partition.take(order("2025-01-02T01:00:00Z"))
    assert partition.profiles["c"]["sequence"] == partition.changes[-1]["sequence"]
    assert partition.profiles["c"]["as_of"] == "2025-01-02T01:00:00Z"


def triggers_of(changes: list[Document]) -> set[tuple[str, str | None]]:
    return {(change["reason"]["trigger"], change["reason"]["event_id"]) for change in changes}


def test_a_record_of_the_day_of_as_of_is_an_event_and_an_earlier_one_a_correction() -> None:
    """By the UTC day, not by the instant."""
    partition = LocalStream(model(hysteresis={"dwell_days": 0}))
    first = order("2025-01-10T12:00:00Z", "10.00")
    assert triggers_of(partition.take(first)) == {("event", first.event_id)}
    earlier_today = order("2025-01-10T00:00:00Z", "400.00")
    assert triggers_of(partition.take(earlier_today)) == {("event", earlier_today.event_id)}
    yesterday = order("2025-01-09T23:59:59.999999Z", "4000.00")
    assert triggers_of(partition.take(yesterday)) == {("correction", yesterday.event_id)}


def test_after_a_midnight_a_record_from_before_it_is_a_correction() -> None:
    """`as_of` is the midnight then."""
    partition = LocalStream(model())
    partition.pass_midnight("2025-01-11")
    late = order("2025-01-10", "10.00")
    changes = partition.take(late)
    assert triggers_of(changes) == {("correction", late.event_id)}
    assert {change["as_of"] for change in changes} == {"2025-01-11T00:00:00Z"}


def test_consent_comes_before_correction_and_erasure_before_consent() -> None:
    """Of several triggers that apply, the first of the contract's list is named."""
    partition = LocalStream(model())
    partition.take(order("2025-01-10"))
    denied = consent("2025-01-05", "profiling", False)
    assert triggers_of(partition.take(denied)) == {("consent", denied.event_id)}
    partition.take(consent("2025-01-06", "profiling", True))
    erased = erasure("2025-01-07")
    changes = partition.take(erased)
    assert triggers_of(changes) == {("erasure", erased.event_id)}
    assert {change["as_of"] for change in changes} == {"2025-01-10T12:00:00Z"}


def test_a_new_model_moves_customers_as_of_now_and_is_the_one_driver() -> None:
    """No event is named; the effect is the change in value."""
    partition = LocalStream(model())
    partition.take(*(order(f"2024-{month:02d}-01", "60.00") for month in range(1, 7)))
    partition.pass_midnight("2024-06-10")
    before = partition.profile()["scores"]["value"]
    partition.restart(
        model(
            version="2",
            segments={"high": 100, "medium": 100},
            groups={"business": 0.1},
            hysteresis={"dwell_days": 0},
        )
    )
    changes = partition.pass_midnight("2024-06-10")
    assert changes
    assert triggers_of(changes) == {("model", None)}
    for change in changes:
        assert change["as_of"] == "2024-06-10T00:00:00Z"
        assert change["model"] == {"name": "default", "version": "2"}
        (driver,) = change["reason"]["drivers"]
        change_in_value = change["scores"]["value"] - change["previous_scores"]["value"]
        assert driver == {
            "metric": "model",
            "before": None,
            "after": None,
            "effect_on_value": pytest.approx(change_in_value, abs=1e-5),
        }
    assert partition.profile()["scores"]["value"] != before
    assert not partition.pass_midnight("2024-06-10")


def test_a_model_that_asks_for_consent_first_lets_everyone_leave() -> None:
    """From opt-out to opt-in without a grant: `left`, and engagement is deleted."""
    partition = LocalStream(model())
    partition.take(order("2025-01-01"), engagement("opened", "2025-01-02", channel="email"))
    partition.restart(model(version="2", profiling="opt_in"))
    changes = partition.pass_midnight("2025-01-03")
    assert [change["direction"] for change in changes] == ["left"] * 3
    assert triggers_of(changes) == {("model", None)}
    assert partition.profiles["c"]["aggregates"]["engagements_90d"] == {}
    assert Model.model_validate(SEEDED_MODEL).fingerprint != partition.model.fingerprint
