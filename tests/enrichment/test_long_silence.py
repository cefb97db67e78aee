"""Long silence: what happens is the same as day by day, and the days on which nothing can happen are not walked."""

from __future__ import annotations

from typing import Any

import pytest

from ebbtide.testing.local_stream import LocalStream, with_midnights
from ebbtide.testing.records import consent, day, engagement, model, order
from enrichment.deciding import timers
from enrichment.deciding.long_silence import LEAST_DAYS
from enrichment.model import Model
from enrichment.scoring.features import build_features
from tests.enrichment.driver import SEEDED_MODEL, WorkerLikeStream, in_replay_order
from tests.oracles.seeded_log import make_log

NEVER = 10**9
SLOW: dict[str, Any] = {
    "lifecycle": {"at_risk_churn_risk": 0.99, "lapsed_churn_risk": 0.9995},
    "tiers": {"by_value": {"strategic": 60, "named": 12, "field": 9}},
    "segments": {"high": 50, "medium": 0.01},
    "hysteresis": {"score_margin": 0.001, "churn_risk_margin": 0.0001},
}
"""Thresholds that are passed years after the last record only."""
BG_NBD = {"purchases": {"family": "bg_nbd", "r": 0.243, "alpha": 4.414, "a": 0.793, "b": 2.426}}
WINDOW: dict[str, Any] = {
    **SLOW,
    "lifecycle": {"window_days": 90, "at_risk_silence_risk": 0.95, "lapsed_silence_risk": 0.997},
    "hysteresis": {"score_margin": 0.001, "churn_risk_margin": 0.0001, "silence_risk_margin": 0.0001},
}
BY_MARGIN: dict[str, Any] = {
    **SLOW,
    "tiers": {
        "by": "expected_margin",
        "breakpoints": [[0, 0], [0.5, 50], [20, 100]],
        "by_expected_margin": {"strategic": 60, "named": 12, "field": 3},
    },
}
MODELS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "slow": SLOW,
    "slow, with a dwell time of years": {**SLOW, "hysteresis": {"dwell_days": 3_000}},
    "with a window of silence, slow": WINDOW,
    "tiers by expected margin, slow": BY_MARGIN,
    "BG/NBD": {"lifetime_value": BG_NBD},
    "BG/NBD, slow": {**SLOW, "lifetime_value": BG_NBD},
    "opt in": {"profiling": "opt_in"},
}


def seeded(changes: dict[str, Any]) -> Model:
    """The model of seeded logs with other numbers."""
    document = {**SEEDED_MODEL}
    for key, value in changes.items():
        document[key] = {**document[key], **value} if isinstance(value, dict) else value
    return Model.model_validate(document)


def silent(changes: dict[str, Any], seed: int, until: str) -> LocalStream:
    """A log of 200 days, and then nothing but time."""
    log = make_log(seed, customers=6, days=200, events=120)
    partition = WorkerLikeStream(seeded(changes), stored=True)
    partition.play(with_midnights(in_replay_order(log)))
    partition.pass_midnight(until)
    return partition


@pytest.mark.parametrize("changes", MODELS.values(), ids=MODELS)
def test_what_happens_is_what_happens_day_by_day(
    changes: dict[str, Any], random_seed: int, is_deep: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten years without a record, or twenty; oracle: every midnight, evaluated."""
    until = "2043-06-01" if is_deep else "2033-06-01"
    passed = silent(changes, random_seed, until)
    monkeypatch.setattr(timers, "LEAST_DAYS", NEVER)
    walked = silent(changes, random_seed, until)
    assert passed.by_customer() == walked.by_customer()
    standings = [partition.profiles_at(day(until) * 86_400_000_000) for partition in (passed, walked)]
    assert standings[0] == standings[1]


@pytest.mark.parametrize(
    "by", [SLOW, WINDOW, BY_MARGIN], ids=["churn risk", "silence risk", "expected margin"]
)
def test_slow_models_move_customers_years_after_their_last_record(by: dict[str, Any]) -> None:
    """So the test above has something to miss."""
    changes = [change for seed in (1, 2, 3) for change in silent(by, seed, "2043-06-01").changes]
    years = {change["as_of"][:4] for change in changes}
    assert len({year for year in years if year > "2025"}) >= 3


def test_midnights_on_which_nothing_can_happen_are_not_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    """One order, and a time until the year 9999: some thousand feature rows, not three million."""
    rows = 0

    def counting(snapshots: Any, snapshot_at: Any, days: Any, by: Model) -> Any:
        nonlocal rows
        rows += len(days)
        return build_features(snapshots, snapshot_at, days, by)

    monkeypatch.setattr("enrichment.scoring.evaluate.build_features", counting)
    partition = LocalStream(model())
    partition.take(order("2025-01-09"))
    partition.pass_midnight("9999-12-31")
    assert partition.changes[-1]["as_of"] < "2027"
    assert rows < 5_000


def test_the_end_of_a_consent_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A grant of profiling that ends after ten years, and one of a channel; oracle: every midnight."""
    found = []
    for least_days in (LEAST_DAYS, NEVER):
        monkeypatch.setattr(timers, "LEAST_DAYS", least_days)
        partition = LocalStream(model(profiling="opt_in"))
        partition.take(
            consent("2025-01-09", "profiling", True, expires_at="2035-03-01T12:00:00Z"),
            consent("2025-01-09", "email", True, expires_at="2031-03-01T12:00:00Z"),
            order("2025-01-10"),
            engagement("clicked", "2025-01-11", channel="email"),
        )
        partition.pass_midnight("2050-01-01")
        found.append(partition.by_customer())
    assert found[0] == found[1]
    assert [
        change["direction"] for change in found[0]["changes"]["c"] if change["as_of"][:10] == "2035-03-02"
    ] == ["left"] * 3
