"""An explanation in words: the rule behind each standing, what would better it, and what that would be worth."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ebbtide.testing.local_stream import LocalStream
from ebbtide.testing.records import consent, day, engagement, model, order
from enrichment.days import day_of, midnight_us
from enrichment.model import METRICS, Calibration, Model, Reference, SegmentWorth
from schemas.profiles import DIMENSIONS
from streams.demo.demo import load_events
from streams.insight.explain import explanation, outlook
from streams.insight.explain_text import explanation_text
from streams.insight.explain_words import words
from streams.replay.replay import replay
from streams.reports.metric_words import METRIC_WORDS

TODAY = "2024-12-31"
Document = dict[str, Any]


def told_of(partition: LocalStream, customer_id: str = "c") -> Document:
    """The document of one customer, with everyone of the partition as peers."""
    customer, peers = partition.customers[customer_id], list(partition.customers.values())
    last_us = midnight_us(partition.midnight_day)
    return {
        **explanation(customer, 0, last_us, partition.model),
        **outlook(customer, last_us, partition.model, peers),
    }


def after_orders(*dates: str, total: str = "20.00", used: Model | None = None) -> LocalStream:
    """A customer with these orders, at the midnight of TODAY."""
    partition = LocalStream(used or model())
    for date in dates:
        partition.pass_midnight(day(date))
        partition.take(order(date, total))
    partition.pass_midnight(TODAY)
    return partition


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    """Everyone of a share of the demo's households who has a standing, under a long dwell."""
    slow = model(hysteresis={"dwell_days": 60})
    replayed = replay(((topic, value) for topic, _, _, value in load_events(percent_of_households=3)), slow)
    last_us = midnight_us(day_of(replayed.end_us))
    found: list[Document] = [
        {**explanation(customer, 0, last_us, slow), **outlook(customer, last_us, slow, [])}
        for customer in replayed.customers.values()
    ]
    return [document for document in found if document["ways_up"] is not None]


def with_standing(**changes: Any) -> Document:
    """A document of a customer who stands where the plain rule says, with other numbers in one dimension."""
    document = told_of(after_orders("2024-11-01"))
    for dimension, parts in changes.items():
        standing = {**document["standing"][dimension], **parts}
        standing.setdefault("held_by", None)
        document["standing"][dimension] = standing
    return document


SCORES = {"lifetime_value_score": 64.5, "churn_risk": 0.125, "potential": 21.0}


@pytest.mark.parametrize(
    ("segment", "measured", "sentence"),
    [
        (
            "high",
            SCORES,
            "Segment high: the lifetime-value score of 64.5 is at least 60, and the risk of no order within a year, "
            "12.5%, is at most 30%.",
        ),
        (
            "medium",
            {**SCORES, "churn_risk": 0.4},
            "Segment medium: the lifetime-value score of 64.5 is at least 60, but the risk of no order within a year, "
            "40%, is above 30%.",
        ),
        (
            "medium",
            {**SCORES, "lifetime_value_score": 51.0},
            "Segment medium: the lifetime-value score of 51 is at least 40 and below 60.",
        ),
        (
            "emerging",
            {**SCORES, "lifetime_value_score": 12.3456},
            "Segment emerging: the lifetime-value score of 12.35 is below 40, but the potential of 21 is at least 20.",
        ),
        (
            "low",
            {**SCORES, "lifetime_value_score": 12.0, "potential": 3.0},
            "Segment low: the lifetime-value score of 12 is below 40, and the potential of 3 below 20.",
        ),
        (
            "emerging",
            {"lifetime_value_score": None, "churn_risk": None, "potential": 30.0},
            "Segment emerging: there is no order yet, and the potential of 30 is at least 20.",
        ),
        (
            "prospect",
            {"lifetime_value_score": None, "churn_risk": None, "potential": 3.0},
            "Segment prospect: there is no order yet, and the potential of 3 is below 20.",
        ),
    ],
)
def test_a_segment_is_told_with_the_rule_behind_it(segment: str, measured: Document, sentence: str) -> None:
    """Each line of the table in docs/scores.md has its sentence, with the model's thresholds."""
    document = with_standing(segment={"current": segment, "plain": segment, "measured": measured})
    assert words(document)[0] == sentence


@pytest.mark.parametrize(
    ("tier", "measured", "sentence"),
    [
        ("strategic", {"value": 80.0}, "Tier strategic: the value of 80 is at least 70."),
        (
            "named",
            {"value": 60.0},
            "Tier named: the value of 60 is at least 55, and below the 70 of strategic.",
        ),
        ("inside", {"potential": 4.25}, "Tier inside: the potential of 4.25 is below 40."),
    ],
)
def test_a_tier_is_told_with_its_thresholds(tier: str, measured: Document, sentence: str) -> None:
    """Of value, or of potential where there is no order."""
    document = with_standing(tier={"current": tier, "plain": tier, "measured": measured})
    assert words(document)[1] == sentence


def test_a_tier_by_expected_margin_is_told_with_the_amount_and_its_points() -> None:
    """The amount is what people know; the points are what the thresholds are in."""
    measured = {"expected_margin": 1234.5, "points": 91.25}
    thresholds = {"strategic": 95.0, "named": 80.0, "field": 50.0}
    document = with_standing(
        tier={"current": "named", "plain": "named", "measured": measured, "thresholds": thresholds}
    )
    assert words(document)[1] == (
        "Tier named: the margin expected of the next 365 days, less cost to serve, is 1,234.50, which has 91.25 "
        "points, at least 80, and below the 95 of strategic."
    )


@pytest.mark.parametrize(
    ("lifecycle", "measured", "sentence"),
    [
        ("prospect", {"churn_risk": None, "tenure_days": None}, "there is no order yet."),
        ("lapsed", {"churn_risk": 0.9, "tenure_days": 400}, "no order within a year is 90%, at least 85%."),
        ("at_risk", {"churn_risk": 0.7, "tenure_days": 400}, "no order within a year is 70%, at least 65%."),
        ("new", {"churn_risk": 0.5, "tenure_days": 4}, "the first order is 4 days ago, at most 30."),
        ("active", {"churn_risk": 0.5, "tenure_days": 40}, "no order within a year is 50%, below 65%."),
    ],
)
def test_a_lifecycle_is_told_with_its_limits_of_churn_risk(
    lifecycle: str, measured: Document, sentence: str
) -> None:
    """Of the risk of no order, or of days since the first one."""
    document = with_standing(lifecycle={"current": lifecycle, "plain": lifecycle, "measured": measured})
    assert words(document)[2].startswith(f"Lifecycle {lifecycle}: ")
    assert words(document)[2].endswith(sentence)


@pytest.mark.parametrize(
    ("lifecycle", "risk", "sentence"),
    [
        ("lapsed", 0.6, "no order within 90 days is 60%, at least 50%."),
        ("at_risk", 0.3, "no order within 90 days is 30%, at least 20%."),
        ("active", 0.1, "no order within 90 days is 10%, below 20%."),
    ],
)
def test_a_lifecycle_is_told_with_its_limits_of_silence_risk(
    lifecycle: str, risk: float, sentence: str
) -> None:
    """Where the model has a window; the risk within a year is not told then."""
    document = with_standing(
        lifecycle={
            "current": lifecycle,
            "plain": lifecycle,
            "measured": {"churn_risk": 0.01, "silence_risk": risk, "tenure_days": 400},
            "thresholds": {
                "at_risk_churn_risk": 0.65,
                "lapsed_churn_risk": 0.85,
                "new_days": 30,
                "window_days": 90,
                "at_risk_silence_risk": 0.2,
                "lapsed_silence_risk": 0.5,
            },
        }
    )
    assert words(document)[2] == f"Lifecycle {lifecycle}: the risk of {sentence}"


def test_what_keeps_a_standing_against_todays_numbers_is_told(documents: list[Document]) -> None:
    """Hysteresis or dwell, by the day; for everyone of whom the plain rule says something else."""
    seen = set()
    for document in documents:
        for dimension, sentence in zip(DIMENSIONS, words(document)[:3], strict=True):
            standing = document["standing"][dimension]
            if standing["current"] == standing["plain"]:
                assert standing["held_by"] is None
                assert " though " not in sentence
                continue
            seen.add(standing["held_by"])
            assert f"though today's numbers alone would say {standing['plain']}" in sentence
            if standing["held_by"] == "dwell":
                assert standing["may_change_from"] > document["profile"]["as_of"][:10]
                assert sentence.endswith(f"this one until {standing['may_change_from']}.")
            else:
                assert sentence.endswith("before anyone moves.")
    assert seen == {"hysteresis", "dwell"}


def test_every_way_up_is_told_with_its_standing(documents: list[Document]) -> None:
    """At most three changes and one action of each sort in words, all of them as JSON, which has no NaN."""
    told = 0
    for document in documents:
        json.dumps(document, allow_nan=False)
        bullets = [line for line in words(document) if line.startswith("- ")]
        expected = 0
        for way in document["ways_up"].values():
            expected += min(len(way["changes"]), 3) + len({a["action"] for a in way["actions"]})
            for change in way["changes"][:3]:
                begin = f"- {METRIC_WORDS[change['metric']]}: "
                assert any(b.startswith(begin) and b.endswith(f": {change['standing']}") for b in bullets)
        assert len(bullets) == expected
        told += expected
    assert told > 100


def test_actions_are_told_with_how_often_and_until_when() -> None:
    """Records a month or a week apart, the standing on the day of the last, and what silence would have made of it."""
    document = with_standing()
    pair = {"without": 1.0, "with": 2.0}
    base = {"every_days": None, "value": pair, "customer_lifetime_value_365d": pair, "until": "2025-03-01"}
    order_now = {
        "action": "order",
        "amount": "12345.60",
        "own_average": True,
        "times": 1,
        "standing": "medium",
    }
    weekly = {"action": "engagement", "kind": "opened", "usual": True, "times": 8, "standing": "emerging"}
    document["ways_up"]["segment"] = {
        "current": "low",
        "at_the_top": False,
        "moves_up_anyway": None,
        "changes": [],
        "actions": [
            {**base, **order_now, "without": "low"},
            {**base, **weekly, "kind": "clicked", "usual": False, "times": 2, "without": "low"},
            {**base, **weekly, "every_days": 7, "without": "prospect"},
            {
                **base,
                "action": "consent",
                "channel": "sms",
                "times": 1,
                "standing": "medium",
                "without": "low",
            },
            {
                **base,
                "action": "declare",
                "key": "size",
                "answer": 9,
                "times": 1,
                "standing": "high",
                "without": "low",
            },
        ],
    }
    bullets = [line for line in words(document) if line.startswith("- ")][:4]
    assert bullets == [
        "- one order of their average value, 12,345.60, today: medium",
        "- one opened a week, 8 times: emerging on 2025-03-01, where without it they would be prospect",
        "- consent to sms, today: medium",
        "- an answer that tells of intent, such as size 9, today: high",
    ]


def test_worth_is_told_as_a_difference_between_customers() -> None:
    """By the margin that a calibration saw later, if the model has it, else by the lifetime value of the peers."""
    parts = {
        name: SegmentWorth(days=92, customers=50, revenue_per_customer=3 * mean, margin_per_customer=mean)
        for name, mean in (("high", 1234.5), ("medium", 20.0), ("low", 2.5))
    }
    calibration = Calibration(until="2024-06-30", customers=150, segments=parts)
    document = told_of(after_orders("2024-11-01", used=model(calibration=calibration.model_dump())))
    assert document["standing"]["segment"]["current"] == "low"
    assert document["worth"]["differences"] == {"high": 1232.0, "medium": 17.5}
    assert words(document)[-1] == (
        "What customers of a segment brought on average in the 92 days after the calibration's cut, in margin (150 "
        "customers with a figure): low 2.50; high 1,234.50 (+1,232.00), medium 20.00 (+17.50). These are differences "
        "between customers, not the effect of moving one."
    )
    uncalibrated = told_of(after_orders("2024-11-01"))
    assert uncalibrated["worth"]["basis"] == "customer_lifetime_value_365d"
    assert uncalibrated["worth"]["differences"] == {}


def test_metrics_are_told_beside_those_of_other_customers_where_a_calibration_kept_them() -> None:
    """Above how many in ten: two days lie above three of the deciles 0.5, 1, 1.5, 2, …; no interaction above none."""
    metrics = {
        "weighted_engagement_90d": Reference(deciles=tuple(range(11)), missing=0),
        "recency_days": Reference(deciles=tuple(number / 2 for number in range(11)), missing=0),
    }
    calibration = Calibration(until="2024-06-30", customers=150, metrics=metrics).model_dump()
    document = told_of(after_orders("2024-12-29", total="60.00", used=model(calibration=calibration)))
    short = document["value_in_short"]
    parts = {part["metric"]: part for part in (*short["carried_by"], *short["held_back_by"])}
    assert parts["weighted_engagement_90d"]["above_tenths"] == 0
    assert parts["recency_days"]["above_tenths"] == 3
    assert {part["above_tenths"] for name, part in parts.items() if name not in metrics} == {None}
    assert "days since the last order: 2, more than 3 in 10 customers have" in words(document)[3]


def test_most_and_missing_points_are_those_of_the_value() -> None:
    """Oracle: the contributions that the scores list, and what each metric could contribute at most."""
    document = told_of(after_orders("2024-10-01", "2024-11-01", "2024-12-01"))
    listed = document["scores"]["value"]["metrics"]
    adds = sorted(((m["contribution"], m["metric"]) for m in listed), key=lambda pair: -pair[0])[:3]
    lacks = sorted(((100 * m["weight"] - m["contribution"]) for m in listed), reverse=True)[:3]
    short = document["value_in_short"]
    assert [part["metric"] for part in short["carried_by"]] == [metric for _, metric in adds]
    assert [part["lacks"] for part in short["held_back_by"]] == pytest.approx(lacks, abs=1e-4)


def test_whom_profiling_is_denied_is_told_nothing_else() -> None:
    """One sentence in words; as JSON neither recourse nor worth."""
    partition = after_orders("2024-10-01", "2024-11-01")
    partition.take(consent(TODAY, "profiling", False), engagement("opened", TODAY))
    document = told_of(partition)
    assert words(document) == ["There is no standing to explain: profiling is not allowed."]
    assert (document["ways_up"], document["worth"], document["value_in_short"]) == (None, None, None)
    assert "would be enough" not in explanation_text(document)


def test_every_metric_has_words() -> None:
    """So that no name of the model file is all that a marketer reads."""
    assert tuple(METRIC_WORDS) == METRICS
