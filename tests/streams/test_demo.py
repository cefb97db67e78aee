"""The demo: its whole way on a share of the households, its verdict, and how it fails."""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
from typing import Any, NamedTuple

import pytest

from enrichment.model import load_model
from schemas.changes import LEVELS
from streams.demo.demo import (
    PARTITIONS,
    compare_with_replay,
    demo_settings,
    load_events,
    run_demo,
    running_worker,
    wait_until_done,
)
from streams.demo.embedded import EmbeddedBroker
from streams.demo.fitting import fit_demo_model
from streams.demo.report import Compared, Published, sentence, silent_weeks, trigger_sentence
from streams.errors import EbbtideError
from streams.kafka.partitioning import default_partition
from streams.replay.replay import Replayed, replay
from tests.services import OwnRedis

pytestmark = pytest.mark.xdist_group("demo")

SHARE_PERCENT = 5

Change = dict[str, Any]


class Run(NamedTuple):
    """What a demo printed, by stream, and its exit code."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def run() -> Run:
    """The demo on a share of the households: real worker, embedded broker and Redis."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run_demo(percent_of_households=SHARE_PERCENT)
    return Run(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Replayed:
    events = [(topic, value) for topic, _, _, value in load_events(SHARE_PERCENT)]
    model = tmp_path_factory.mktemp("demo") / "model.yaml"
    fit_demo_model(events, model)
    return replay(iter(events), load_model(model))


def numbers_of(line: str) -> list[int]:
    return [int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", line)]


def line_with(text: str, words: str) -> str:
    folded = " ".join(text.split())
    (line,) = (part for part in folded.split(" - ") if words in part)
    return line


def test_the_worker_publishes_what_replay_publishes(run: Run, replayed: Replayed) -> None:
    """As many changes as replay of the same events makes up to the last midnights, none of them different."""
    assert run.code == 0
    equal = numbers_of(line_with(run.out, "equal to replay's"))
    assert sum(equal) == len(replayed.results.changes)


def test_every_household_and_event_is_counted(run: Run, replayed: Replayed) -> None:
    """Oracle: the bundled files themselves, and the customers that replay ends with."""
    events = load_events(SHARE_PERCENT)
    told = numbers_of(line_with(run.out, " events ("))
    assert told[0] == sum(told[1:4]) == len(events)
    assert told[4] == len(replayed.profiles) == len({key for _, _, key, _ in events})
    assert "0 dead letters" in run.out


def test_the_tables_show_standings_changes_flows_and_reactivations(run: Run) -> None:
    """Every level of every dimension has its row."""
    for dimension, levels in LEVELS.items():
        assert f"Customers per {dimension}" in run.out
        assert all(re.search(rf"\b{level}\b", run.out) for level in levels)
    for title in ("Changes by direction", "Flows between segments", "Re-activations that fell due"):
        assert title in run.out
    assert "by time alone: " in run.out
    assert " events/s end to end " in run.out


def test_downgrades_by_time_fall_in_many_weeks(run: Run, replayed: Replayed) -> None:
    """Oracle: replay's changes, by Python's ISO calendar."""
    (weeks,) = numbers_of(line_with(run.out, "triggered by time alone"))
    assert weeks == len(silent_weeks(replayed.results.changes))
    assert weeks >= 40


def test_progress_without_a_terminal_is_plain_lines(run: Run) -> None:
    """Each stage tells how far it has come, on stderr."""
    count = f"{len(load_events(SHARE_PERCENT)):,}"
    for stage in ("produce", "stream", "replay, to compare"):
        assert f"{stage}: {count} of {count} events (100%)" in run.err


def as_published(replayed: Replayed) -> Published:
    """Replay's own changes as if a worker had made them."""
    published = Published(changes=[dict(change) for change in replayed.results.changes])
    for change in published.changes:
        change["change_id"] = f"of the stream: {change['change_id']}"
    return published


def last_days(day: int) -> dict[int, int]:
    return dict.fromkeys(range(PARTITIONS), day)


def test_a_change_that_is_missing_or_different_is_no_equality(replayed: Replayed) -> None:
    """Ids alone may differ."""
    published, total = as_published(replayed), len(replayed.results.changes)
    assert compare_with_replay(published, replayed, last_days(100_000)) == Compared(total, 0, 0, 0)
    published.changes[0]["scores"] = {**published.changes[0]["scores"], "value": 12.5}
    differing = compare_with_replay(published, replayed, last_days(100_000))
    assert (differing, differing.is_equal) == (Compared(total - 1, 1, 1, 0), False)
    del published.changes[0]
    missing = compare_with_replay(published, replayed, last_days(100_000))
    assert (missing, missing.is_equal) == (Compared(total - 1, 0, 1, 0), False)


def test_nothing_published_is_no_equality(replayed: Replayed) -> None:
    """Even where replay has nothing up to the partition's last midnight either."""
    compared = compare_with_replay(Published(), replayed, last_days(0))
    assert compared == Compared(0, 0, 0, len(replayed.results.changes))
    assert not compared.is_equal


@pytest.mark.parametrize(
    ("key", "murmur2"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"abc", 479470107),
    ],
)
def test_events_are_partitioned_as_javas_clients_do(key: bytes, murmur2: int) -> None:
    """Oracle: the hashes in Apache Kafka's own UtilsTest.testMurmur2."""
    assert default_partition(key, PARTITIONS) == (murmur2 & 0x7FFFFFFF) % PARTITIONS


def test_a_worker_that_cannot_start_ends_the_demo_with_its_log(
    embedded_broker: EmbeddedBroker, embedded_redis: OwnRedis, capsys: pytest.CaptureFixture[str]
) -> None:
    """Here the topics are missing; the log says so, and nothing waits for the time-out."""
    settings = demo_settings(embedded_broker.bootstrap_servers, embedded_redis.url)
    settings = settings.model_copy(update={"topic_prefix": "never-created-"})
    with (
        pytest.raises(EbbtideError, match="the worker ended before its work was done"),
        running_worker(settings) as worker,
    ):
        asyncio.run(wait_until_done(settings, worker, load_events(1), lambda done, total: None))
    assert not worker.is_running()
    assert "never-created-purchases" in capsys.readouterr().err


def test_the_demo_takes_no_settings_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model or a currency meant for a real worker would not fit the demo's data."""
    own = {"web_port", "erasure_key"}
    expected = demo_settings("127.0.0.1:1", "redis://127.0.0.1:1/0").model_dump(exclude=own)
    for name, value in {"MODEL": "/nowhere.yaml", "BASE_CURRENCY": "EUR", "TOPIC_PREFIX": "mine-"}.items():
        monkeypatch.setenv(f"EBBTIDE_{name}", value)
    assert demo_settings("127.0.0.1:1", "redis://127.0.0.1:1/0").model_dump(exclude=own) == expected


def change(**values: Any) -> Change:
    """A change of household 1238 from high to medium by silence, unless told otherwise."""
    driver = {"metric": "recency_days", "before": 31, "after": 61, "effect_on_value": -9.3}
    return {
        "customer_id": "1238",
        "dimension": "segment",
        "previous": "high",
        "current": "medium",
        "direction": "downgrade",
        "as_of": "2017-05-03T00:00:00Z",
        "reason": {"trigger": values.pop("trigger", "time"), "event_id": None, "drivers": [driver]},
        "traits": {"recency_days": 61},
        **values,
    }


def test_a_change_is_told_in_a_sentence() -> None:
    """Who, from what to what, when, what triggered it, and what drove it."""
    assert sentence(change()) == (
        "Household 1238, segment high until then, was downgraded to medium on 2017-05-03 by time alone: "
        "61 days since the last order; recency_days 31 → 61, -9.3 points of value."
    )
    assert sentence(change(direction="left", current=None, trigger="consent")) == (
        "Household 1238, segment high until then, withdrew from profiling on 2017-05-03: no standing since."
    )
    assert sentence(change(direction="entered", previous=None, trigger="event")) == (
        "Household 1238 entered on 2017-05-03: segment medium."
    )


def test_a_control_group_is_left_alone() -> None:
    """The sentence on a re-activation tells which group the household is in."""
    trigger = {
        "customer_id": "7",
        "due_at": "2017-05-08T00:00:00Z",
        "segment": "low",
        "lifecycle": "at_risk",
        "channels": ["post", "email"],
        "group": "treatment",
    }
    told = "On 2017-05-08 a re-activation of household 7 (low, at_risk) fell due"
    assert trigger_sentence(trigger) == f"{told}, by post or email."
    assert (
        trigger_sentence({**trigger, "group": "control"})
        == f"{told}: left alone, as one of the control group."
    )


def test_weeks_are_counted_by_the_iso_calendar() -> None:
    """1 January 2017 was a Sunday, of week 52 of 2016; upgrades and events count nowhere."""
    days = ("2016-12-31", "2017-01-01", "2017-01-02", "2017-01-08", "2017-01-09")
    changes = [change(as_of=f"{day}T00:00:00Z") for day in days]
    others = [
        change(as_of="2017-06-01T00:00:00Z", direction="upgrade"),
        change(as_of="2017-06-01", trigger="event"),
    ]
    assert silent_weeks([*changes, *others]) == {(2016, 52), (2017, 1), (2017, 2)}
