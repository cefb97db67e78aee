"""The overview page: what is gathered for it is what the documents say, and the page shows it, whole in itself."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ebbtide.testing.local_stream import LocalStream
from ebbtide.testing.records import consent, day, model, order
from enrichment.days import format_day, midnight_us
from schemas.changes import LEVELS
from schemas.events import Event
from schemas.profiles import DIMENSIONS
from schemas.timestamps import parse_timestamp
from streams.cli.commands import main
from streams.demo.demo import load_events
from streams.replay.fared import Fared, how_they_fared
from streams.replay.replay import Replayed, replay
from streams.reports.overview import FLOW_DAYS, NONE, Overview, overview_of, why
from streams.reports.overview_page import page_of
from streams.reports.sankey import Flow, sankey
from tests.streams.pages import Page

END = "2017-12-31T00:00:00Z"
SHARE_PERCENT = 3


def replayed_until(end_us: int) -> Replayed:
    """Some of the demo's households, up to a time, by the built-in model."""
    values = ((topic, value) for topic, _, _, value in load_events(SHARE_PERCENT))
    return replay(values, model(), until_us=end_us)


@pytest.fixture(scope="module")
def replayed() -> Replayed:
    return replayed_until(parse_timestamp(END))


@pytest.fixture(scope="module")
def told(replayed: Replayed) -> Overview:
    fared = how_they_fared(replayed.results.triggers, replayed.customers, replayed.end_us)
    return overview_of(
        documents(replayed.results.changes), documents(replayed.profiles), fared, model(), replayed.end_us
    )


def documents(published: Any) -> list[dict[str, Any]]:
    """As they come from files."""
    return [dict(document) for document in published]


def test_standings_add_up_to_what_the_profiles_say(replayed: Replayed, told: Overview) -> None:
    """Customers, revenue and lifetime value of each standing; every customer is in one row of each dimension."""
    for dimension in DIMENSIONS:
        rows = told.standings[dimension]
        counts = Counter(profile["standing"][dimension] or NONE for profile in replayed.profiles)
        assert {row["standing"]: row["customers"] for row in rows} == counts
        assert sum(row["customers_share"] for row in rows) == pytest.approx(1)
        revenue = sum(float(profile["aggregates"]["revenue_365d"]) for profile in replayed.profiles)
        assert sum(row["revenue_365d"] for row in rows) == pytest.approx(revenue)
        assert [row["standing"] for row in rows] == [
            level for level in (*LEVELS[dimension], NONE) if counts[level]
        ]


def test_flows_lead_from_where_customers_stood_then_to_where_they_stand_now(
    replayed: Replayed, told: Overview
) -> None:
    """Oracle: a replay that ends with the first of these days. Who came later stood nowhere."""
    start_day = day(END[:10]) - FLOW_DAYS
    earlier = replayed_until(midnight_us(start_day + 1) - 1)
    before = {profile["customer_id"]: profile["standing"]["segment"] for profile in earlier.profiles}
    now = {profile["customer_id"]: profile["standing"]["segment"] for profile in replayed.profiles}
    expected = Counter((before.get(own) or NONE, current or NONE) for own, current in now.items())
    assert {(flow.previous, flow.current): flow.customers for flow in told.flows} == expected
    assert len(expected) > 5
    money = sum(
        float(profile["traits"]["customer_lifetime_value_365d"] or 0) for profile in replayed.profiles
    )
    assert sum(flow.money for flow in told.flows) == pytest.approx(money)


def test_who_is_at_risk_is_listed_with_most_at_stake_first(replayed: Replayed, told: Overview) -> None:
    """All are counted, and what is at stake with all of them."""
    warned = [
        profile for profile in replayed.profiles if profile["standing"]["lifecycle"] in ("at_risk", "lapsed")
    ]
    stakes = sorted((float(profile["traits"]["value_at_stake"] or 0) for profile in warned), reverse=True)
    assert told.warned == len(warned) > 0
    assert [row["value_at_stake"] for row in told.at_stake] == stakes[:20]
    assert told.at_stake_in_all == pytest.approx(sum(stakes))


def a_change(as_of: str, previous: str, current: str, **values: Any) -> dict[str, Any]:
    """A downgrade of `c` by silence."""
    return {
        "customer_id": "c",
        "dimension": "segment",
        "previous": previous,
        "current": current,
        "direction": "downgrade",
        "as_of": f"{as_of}T00:00:00Z",
        "reason": {"trigger": "time", "event_id": None, "drivers": []},
        "traits": {"recency_days": 61, "churn_risk": 0.4, "silence_risk": None},
        **values,
    }


def a_profile(segment: str, lifecycle: str = "active") -> dict[str, Any]:
    """Of `c`, to whom 12.50 is at stake."""
    return {
        "customer_id": "c",
        "standing": {"segment": segment, "tier": "field", "lifecycle": lifecycle},
        "aggregates": {"revenue_90d": "5.00", "revenue_365d": "80.00"},
        "traits": {
            "customer_lifetime_value_365d": "20.00",
            "value_at_stake": "12.50",
            "churn_risk": 0.4,
            "silence_risk": None,
            "recency_days": 61,
        },
    }


@pytest.mark.parametrize(
    ("changes", "segment", "slipped"),
    [
        ([a_change("2025-03-25", "high", "medium")], "medium", True),
        ([a_change("2025-03-24", "high", "medium")], "medium", False),
        ([a_change("2025-03-25", "high", "medium")], "high", False),
        ([a_change("2025-03-25", "low", "medium", direction="upgrade")], "medium", False),
        ([a_change("2025-03-25", "strategic", "named", dimension="tier")], "medium", False),
    ],
    ids=["seven days", "eight days", "back again", "upgrade", "tier"],
)
def test_who_slipped_in_the_last_week_and_is_there_still_is_listed(
    changes: list[dict[str, Any]], segment: str, slipped: bool
) -> None:
    """The last week are the seven days that end with the last one."""
    told = overview_of(changes, [a_profile(segment)], [], model(), midnight_us(day("2025-03-31")))
    assert bool(told.slipped) == slipped
    assert told.slipped_in_all == len(told.slipped)
    if slipped:
        assert told.slipped[0]["why"] == "no order for 61 days"
        assert told.slipped[0]["value_at_stake"] == 12.5


def test_why_tells_the_silence_its_risk_and_what_moved_value_down() -> None:
    """Recency is told as silence already; what moved value up is no reason."""
    drivers = [
        {"metric": "recency_days", "before": 3, "after": 61, "effect_on_value": -9.0},
        {"metric": "growth", "before": 0.5, "after": 1.25, "effect_on_value": 3.0},
        {"metric": "revenue_365d", "before": 120.0, "after": None, "effect_on_value": -2.0},
    ]
    reason = {"trigger": "time", "event_id": None, "drivers": drivers}
    slip = a_change("2025-03-25", "active", "at_risk", dimension="lifecycle", reason=reason)
    assert why(slip, model()) == (
        "no order for 61 days; 40% risk of none in the next 365; revenue in 365 days 120.0 → none"
    )
    of_another = a_change(
        "2025-03-25", "high", "low", reason={**reason, "trigger": "correction", "drivers": []}
    )
    assert why(of_another, model()) == "by correction"


def slipping(*more: Event) -> LocalStream:
    """A customer who buys monthly, then slips, and is due a re-activation; then come more records."""
    stream = LocalStream(model())
    stream.take(consent("2024-01-01", "email", True))
    for month in range(1, 6):
        stream.take(order(f"2024-{month:02d}-05", "60.00"))
    while not stream.triggers:
        stream.pass_midnight(max(stream.midnight_day, day("2024-05-05")) + 1)
    stream.take(*more)
    return stream


@pytest.mark.parametrize(("days_later", "bought"), [(0, True), (13, True), (14, False)])
def test_who_bought_within_14_days_of_a_re_activation_is_counted(days_later: int, bought: bool) -> None:
    """The day on which it fell due is the first; what they spent then is told."""
    due_day = slipping().midnight_day
    stream = slipping(order(f"{format_day(due_day + days_later)}T12:00:00Z", "44.00"))
    triggers: Any = stream.triggers
    (found,) = how_they_fared(triggers, stream.customers, midnight_us(due_day + 13))
    assert (found.day, found.bought, found.revenue) == (due_day, bought, 44.0 if bought else 0.0)
    assert found.is_seen_whole
    (cut_short,) = how_they_fared(triggers, stream.customers, midnight_us(due_day + 13) - 1)
    assert not cut_short.is_seen_whole


def fared(group: str, bought: bool, *, is_seen_whole: bool = True, day_: int = 100) -> Fared:
    return Fared(day_, group, "low", 2.0, is_seen_whole, bought, 10.0 if bought else 0.0)


def test_re_activations_are_told_by_group_and_shares_are_of_those_seen_whole() -> None:
    """One that fell due too lately to tell counts as due, and no more."""
    of_the_log = [
        fared("treatment", True),
        fared("treatment", False),
        fared("treatment", False, is_seen_whole=False),
        fared("control", True),
        fared("control", True, day_=9),
    ]
    told = overview_of([], [], of_the_log, model(), midnight_us(99))
    treatment, control = told.reactivations
    assert (treatment["due"], treatment["seen"], treatment["bought"]) == (3, 2, 1)
    assert (treatment["bought_share"], treatment["revenue_each"], treatment["value_at_stake"]) == (
        0.5,
        5.0,
        6.0,
    )
    assert (control["due"], control["bought_share"]) == (1, 1.0)


def test_the_page_is_whole_in_itself_and_shows_what_was_gathered(told: Overview) -> None:
    """Nothing is loaded, nothing runs, ids are there once, and each link on the page leads somewhere."""
    page = Page(page_of(told))
    assert page.elements["script"] == page.elements["link"] == page.elements["img"] == 0
    assert set(page.ids.values()) == {1}
    assert {found[1:] for found in page.references if found.startswith("#")} <= set(page.ids)
    assert all(found.startswith("#") for found in page.references)
    assert page.elements["svg"] == 1
    for flow in told.flows:
        if flow.previous != flow.current:
            assert f"{flow.previous} {flow.current} {flow.customers:,} {flow.money:,.2f}" in page.text


def test_names_of_customers_are_text_and_nothing_else() -> None:
    """An id may hold what a browser would run."""
    hostile = "<script>alert(1)</script>"
    change = {**a_change("2025-03-25", "high", "medium"), "customer_id": hostile}
    profile = {**a_profile("medium", "at_risk"), "customer_id": hostile}
    html = page_of(overview_of([change], [profile], [], model(), midnight_us(day("2025-03-31"))))
    assert "<script" not in html
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 2


def test_nobody_and_nothing_make_a_page_too() -> None:
    """Each section says that there is nothing to show."""
    page = Page(page_of(overview_of([], [], [], model(), 0)))
    for said in ("Nobody moved.", "Nobody did.", "Nobody is at risk.", "None fell due in the last 90 days."):
        assert said in page.text


def test_a_diagram_names_each_standing_with_its_customers_and_money() -> None:
    """On both sides; a flow that is high enough has its size on it."""
    flows = [Flow("high", "high", 60, 600.0), Flow("high", "low", 30, 90.4), Flow("low", "high", 10, 55.0)]
    svg = sankey(flows, ("high", "medium", "low"), "what it shows")
    page = Page(f"<html>{svg}</html>")
    for said in ("high 90 · 690", "low 10 · 55", "high 70 · 655", "low 30 · 90", "30 · 90", "10 · 55"):
        assert said in page.text
    assert "medium" not in page.text
    assert 'aria-label="what it shows"' in svg


@pytest.mark.parametrize(
    ("money", "told"), [(99_999.4, "99,999"), (99_999.6, "100k"), (1_234_567.8, "1,235k")]
)
def test_large_sums_are_told_in_thousands_beside_a_standing(money: float, told: str) -> None:
    """The table below the diagram has them whole."""
    assert (
        f"low 1 · {told}"
        in Page(f"<html>{sankey([Flow('low', 'low', 1, money)], ['low'], 'what')}</html>").text
    )


def test_replay_writes_the_page_and_it_does_not_depend_on_processes(tmp_path: Path) -> None:
    """The same bytes by one process and by two; the files of results are as without a page."""
    paths = []
    for topic in ("purchases", "engagements", "consents"):
        paths += [f"--{topic}", str(tmp_path / f"{topic}.jsonl")]
        lines = [value for of, _, _, value in load_events(1) if of == topic]
        (tmp_path / f"{topic}.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    pages = []
    for processes in ("1", "2"):
        out, page = tmp_path / processes, tmp_path / f"{processes}.html"
        given = ["--out", str(out), "--processes", processes, "--html", str(page)]
        assert main(["replay", *paths, *given]) == 0
        pages.append(page.read_bytes())
        assert sorted(each.name for each in out.iterdir()) == [
            "customer-profiles.jsonl",
            "dead-letters.jsonl",
            "reactivation-triggers.jsonl",
            "segment-changes.jsonl",
            "summary.json",
        ]
    assert pages[0] == pages[1]
    assert b"customers on 201" in pages[0]
