"""`ebbtide explain`: one customer's profile, scores with their metrics, and standings."""

from __future__ import annotations

import json
from typing import Any

import pytest

from enrichment.model import METRICS
from schemas.changes import LEVELS
from schemas.profiles import SCORE_NAMES
from streams.cli.commands import main
from streams.errors import EbbtideError
from streams.insight.explain import explain, explanation
from tests.services import RedisService
from tests.streams.held_group import HeldGroup, hold, hold_group


@pytest.fixture(scope="module")
def group(redis_server: RedisService) -> HeldGroup:
    return hold_group(redis_server.url, "explained-group", percent_of_households=8)


def explained(group: HeldGroup, customer_id: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(explain(group.settings, customer_id, as_json=True))
    return document


def ids(group: HeldGroup, *, profiled: bool = True) -> list[str]:
    """Customers of whom profiling is allowed, or of whom it is not."""
    return [
        str(profile["customer_id"])
        for profile in group.replayed.profiles
        if (profile["standing"]["segment"] is not None) == profiled
    ]


def test_the_explained_profile_is_the_exported_one(group: HeldGroup) -> None:
    """One definition of the scores; oracle: replay's profile but for the time, which here is the last midnight."""
    customer_id = ids(group)[0]
    profile, expected = explained(group, customer_id)["profile"], group.profile_of(customer_id)
    assert profile["as_of"] <= expected["as_of"]
    assert {**profile, "as_of": ""} == {**json.loads(json.dumps(expected)), "as_of": ""}


def test_metrics_add_up_to_their_scores(group: HeldGroup) -> None:
    """The parts of each score sum to it, and the weights to 1, for every customer (to 6 decimals each)."""
    model = group.model
    for customer_id in ids(group):
        customer = group.replayed.customers[customer_id]
        scores: Any = explanation(customer, 0, group.midnight_day * 86_400_000_000, model)["scores"]
        assert tuple(scores) == SCORE_NAMES
        for part in scores.values():
            assert sum(m["contribution"] for m in part["metrics"]) == pytest.approx(part["score"], abs=2e-5)
            assert sum(m["weight"] for m in part["metrics"]) == pytest.approx(1, abs=2e-5)
        assert [metric["metric"] for metric in scores["value"]["metrics"]] == list(METRICS)


def test_a_standing_lies_between_the_harder_and_the_easier_rule_once_it_may_move(group: HeldGroup) -> None:
    """Hysteresis, as docs/contract.md section 5 has it: harder is never better than plain, plain never than easier."""
    for customer_id in ids(group):
        customer = group.replayed.customers[customer_id]
        document: Any = explanation(customer, 0, group.midnight_day * 86_400_000_000, group.model)
        as_of = document["profile"]["as_of"][:10]
        for dimension, standing in document["standing"].items():
            rank = LEVELS[dimension].index
            assert rank(standing["easier"]) <= rank(standing["plain"]) <= rank(standing["harder"])
            assert standing["current"] == document["profile"]["standing"][dimension]
            if standing["may_change_from"] <= as_of and standing["current"] != "new":
                assert rank(standing["easier"]) <= rank(standing["current"]) <= rank(standing["harder"])


def test_a_standing_tells_the_day_of_its_last_change(group: HeldGroup) -> None:
    """Oracle: the last change of each dimension in replay's output."""
    customer_id = ids(group)[1]
    last = {
        change["dimension"]: str(change["as_of"])[:10]
        for change in group.replayed.results.changes
        if change["customer_id"] == customer_id
    }
    told = {name: part["changed_on"] for name, part in explained(group, customer_id)["standing"].items()}
    assert told == last


def test_a_pending_reactivation_is_told_with_its_day(group: HeldGroup) -> None:
    """Of every customer who has one; the change that started it is one of theirs."""
    waiting = [c for c in group.replayed.customers.values() if c.decision.pending is not None]
    assert waiting
    for customer in waiting:
        pending = explained(group, customer.id)["pending_trigger"]
        started = [c for c in group.replayed.results.changes if c["change_id"] == pending["change_id"]]
        assert [c["customer_id"] for c in started] == [customer.id]
        assert pending["due_on"] > str(started[0]["as_of"])[:10]


def test_the_words_hold_every_score_metric_and_threshold(group: HeldGroup) -> None:
    """The text is made from the same document as the JSON."""
    customer_id = ids(group)[0]
    text, document = explain(group.settings, customer_id, as_json=False), explained(group, customer_id)
    assert text.startswith(f"Customer {customer_id}, as of {document['profile']['as_of']}\n")
    for name, part in document["scores"].items():
        assert f"  {name} {part['score']:.2f}\n" in text
    for expected in (*METRICS, "high_churn_risk_limit 0.3", "strategic 70", "may be reached by:", "since 20"):
        assert expected in text


def test_of_who_denied_profiling_no_score_is_told(group: HeldGroup) -> None:
    """Neither in words nor as JSON."""
    customer_id = ids(group, profiled=False)[0]
    document = explained(group, customer_id)
    assert document["scores"] == {name: {"score": None, "metrics": []} for name in SCORE_NAMES}
    assert {part["current"] for part in document["standing"].values()} == {None}
    assert {part["plain"] for part in document["standing"].values()} == {None}
    assert {value for part in document["standing"].values() for value in part["measured"].values()} == {None}
    assert document["since_last_change"] is None
    assert (document["ways_up"], document["worth"], document["value_in_short"]) == (None, None, None)
    assert "profiling is not allowed" in explain(group.settings, customer_id, as_json=False)


def test_worth_is_the_mean_lifetime_value_of_the_customers_beside_them(group: HeldGroup) -> None:
    """Oracle: the replayed profiles of the partition, here of fewer than 2,000 customers, as cents."""
    customer_id = next(name for name in ids(group) if group.profile_of(name)["standing"]["segment"] == "low")
    document = explained(group, customer_id)
    partition = group.partition_of[customer_id]
    worth: dict[str, list[float]] = {}
    for name in ids(group):
        profile = group.profile_of(name)
        if group.partition_of[name] == partition and profile["aggregates"]["order_count"] > 0:
            amount = float(profile["traits"]["customer_lifetime_value_365d"])
            worth.setdefault(profile["standing"]["segment"], []).append(amount)
    assert {name: part["customers"] for name, part in document["worth"]["segments"].items()} == {
        name: len(amounts) for name, amounts in worth.items()
    }
    for name, difference in document["worth"]["differences"].items():
        means = [sum(worth[segment]) / len(worth[segment]) for segment in (name, "low")]
        assert difference == pytest.approx(means[0] - means[1], abs=0.01)
    assert document["worth"]["differences"]


def test_the_words_say_what_would_move_a_customer_up(group: HeldGroup) -> None:
    """From the fields that JSON has, between who the customer is and the numbers."""
    customer_id = next(name for name in ids(group) if explained(group, name)["ways_up"]["segment"]["changes"])
    text = explain(group.settings, customer_id, as_json=False)
    in_words = text.partition("\nIn words\n")[2].partition("\nStanding\n")[0]
    assert f"For a better segment than {group.profile_of(customer_id)['standing']['segment']}" in in_words
    assert "These are differences" in " ".join(in_words.split())


def test_an_unknown_customer_is_one_line_and_exit_code_1(
    group: HeldGroup, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through the command line, with the settings in the environment."""
    for name, value in group.settings.as_environment().items():
        monkeypatch.setenv(name, value)
    assert main(["explain", "nobody"]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("ebbtide: error: no customer 'nobody' in Redis at redis://")
    assert output.err.count("\n") == 1
    assert main(["explain", ids(group)[0]]) == 0
    assert capsys.readouterr().out.startswith("Customer ")


def test_a_customer_in_two_partitions_tells_of_producers_that_disagree(redis_server: RedisService) -> None:
    """Two partitioners split a customer's history in two, which nobody would notice otherwise."""
    group = hold_group(redis_server.url, "split-group", percent_of_households=1)
    customer_id, partition = next(iter(group.partition_of.items()))
    customer = group.replayed.customers[customer_id]
    hold(group.settings, group.model, 7, group.midnight_day, [customer])
    with pytest.raises(EbbtideError, match=f"is in partitions {partition}, 7: the producers"):
        explain(group.settings, customer_id, as_json=False)
