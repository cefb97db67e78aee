"""Live equals replay: the same logs through real Kafka, Redis and the worker, and through replay."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pandas as pd
import pytest
import yaml

from enrichment.days import midnight_us
from enrichment.model import Model
from schemas.timestamps import parse_timestamp
from schemas.topics import INPUT_TOPICS, InputTopic
from streams.demo.demo import load_events
from streams.insight.calibrate import Outputs, Wanted, run_calibration
from streams.replay.reading import read_records
from streams.replay.replay import NAMESPACE, Replayed, replay
from streams.settings import Settings
from tests.enrichment.driver import SEEDED_MODEL
from tests.integration.harness import (
    Document,
    Record,
    aggregates,
    changes_of,
    check_sequences,
    make_settings,
    make_topics,
    partition_of,
    produce,
    read_documents,
    run_to_the_end,
    running,
    stored_profiles,
    until_idle,
    write_model,
)
from tests.oracles.recount import read_log
from tests.oracles.rescore import rescore
from tests.oracles.seeded_log import make_log
from tests.services import KafkaService, RedisService

PARTITIONS = 4
IN_TIME_S = 1_200.0
"""For the whole demo, on a slow machine that does other things beside it."""
Log = dict[InputTopic, list[bytes]]

pytestmark = pytest.mark.real_kafka


DEMO_SHARES = pytest.mark.parametrize(
    "percent_of_households",
    [
        pytest.param(15, marks=pytest.mark.deep),
        # The whole of it takes a slow core twenty minutes.
        pytest.param(100, marks=[pytest.mark.deep, pytest.mark.timeout(3_000)]),
    ],
)


def demo_log(percent_of_households: int) -> Log:
    """The Complete Journey as the demo sends it, or a share of its households."""
    events = load_events(percent_of_households)
    return {topic: [value for of, _, _, value in events if of == topic] for topic in INPUT_TOPICS}


def seeded_log(seed: int, **options: Any) -> Log:
    """A made-up log with every difficulty."""
    made = make_log(seed, **options)
    return {topic: [orjson.dumps(record) for record in made[topic]] for topic in INPUT_TOPICS}


def records_of(log: Mapping[InputTopic, Iterable[bytes]], *topics: InputTopic) -> Iterator[Record]:
    """The inputs' records, one topic after the other, each customer's in one partition."""
    for topic in topics:
        for value in log[topic]:
            key = str(orjson.loads(value)["customer_id"]).encode()
            yield Record(topic, key, value, partition_of(key, PARTITIONS))


def replayed(log: Log, model: Model) -> Replayed:
    return replay(((topic, value) for topic in INPUT_TOPICS for value in log[topic]), model)


@pytest.fixture(
    params=["seeded", *(pytest.param(demo, marks=pytest.mark.deep) for demo in ("demo", "whole demo"))]
)
def log(request: pytest.FixtureRequest, random_seed: int) -> Log:
    if request.param == "seeded":
        return seeded_log(random_seed, customers=60, events=4_000)
    return demo_log(15 if request.param == "demo" else 100)


@pytest.fixture
def settings(
    kafka: KafkaService,
    redis_server: RedisService,
    unique_prefix: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> Settings:
    """With replay's own namespace, so that ids are the same too, and the model that the log expects."""
    is_demo = "demo" in request.node.name
    model = None if is_demo else write_model(tmp_path / "model.yaml", SEEDED_MODEL)
    return make_settings(
        kafka.bootstrap_servers, redis_server.url, unique_prefix, namespace=NAMESPACE, model=model
    )


async def test_one_topic_after_another_by_the_wall_clock_gives_replays_aggregates(
    settings: Settings, log: Log
) -> None:
    """All consents, then all purchases, then all engagement: the aggregates of every customer are replay's."""
    await make_topics(settings, PARTITIONS)
    async with running(settings) as worker:
        for topic in INPUT_TOPICS:
            await produce(settings, records_of(log, topic))
            await until_idle(settings, worker, IN_TIME_S)
    oracle = replayed(log, settings.load_model())
    found = aggregates(await stored_profiles(settings, oracle.end_us))
    expected = aggregates(oracle.profiles)
    assert found.keys() == expected.keys()
    assert {customer for customer in expected if found[customer] != expected[customer]} == set()
    check_sequences(await changes_of(settings))
    assert await read_documents(settings, "dead-letters") == []


async def test_by_the_event_clock_changes_and_triggers_are_replays(
    settings: Settings, request: pytest.FixtureRequest, random_seed: int
) -> None:
    """Up to each partition's last midnight, ids included, from a log in order (repeats apart)."""
    log = seeded_log(random_seed, customers=80, events=5_000, disorder=False)
    settings = settings.model_copy(update={"clock": "event"})
    await make_topics(settings, PARTITIONS)
    await produce(settings, records_of(log, *INPUT_TOPICS))
    async with running(settings) as worker:
        await until_idle(settings, worker, IN_TIME_S)
        checkpoints = [state.checkpoint for state in worker.states().values()]
    end_us = [
        midnight_us(checkpoint.midnight_day + 1) for checkpoint in checkpoints if checkpoint is not None
    ]
    oracle = replayed(log, settings.load_model())

    def happened(documents: Iterable[Any]) -> dict[str, list[Document]]:
        """By customer, in their order; what replay's later midnights brought is left out."""
        by_customer: dict[str, list[Document]] = {}
        for document in documents:
            customer_id = str(document["customer_id"])
            if parse_timestamp(document["as_of"]) < end_us[partition_of(customer_id.encode(), PARTITIONS)]:
                by_customer.setdefault(customer_id, []).append(document)
        return by_customer

    changes = await changes_of(settings)
    assert any(change["reason"]["trigger"] == "time" for change in changes)
    assert happened(changes) == happened(oracle.results.changes)
    triggers = happened(await read_documents(settings, "reactivation-triggers"))
    assert triggers == happened(oracle.results.triggers)
    assert triggers
    check_sequences(changes)


async def test_the_split_into_micro_batches_changes_nothing_but_left_out_profiles(
    settings: Settings, random_seed: int
) -> None:
    """Micro-batches of 7 records and 3 customers publish the same changes as one worker's usual ones: replay's."""
    log = seeded_log(random_seed, customers=12, days=120, events=300, disorder=False, late_money=False)
    settings = settings.model_copy(
        update={"clock": "event", "batch_max_records": 7, "batch_max_customers": 3, "cache_customers": 2}
    )
    await make_topics(settings, PARTITIONS)
    await produce(settings, records_of(log, *INPUT_TOPICS))
    await run_to_the_end(settings, IN_TIME_S)
    changes = await changes_of(settings)
    check_sequences(changes)
    by_event = {change["change_id"]: change for change in changes}
    oracle = replayed(log, settings.load_model()).results.changes
    expected = {change["change_id"]: change for change in oracle}
    assert by_event.keys() <= expected.keys()
    assert all(expected[change_id] == change for change_id, change in by_event.items())
    assert all(
        change_id in by_event
        for change_id, change in expected.items()
        if change["reason"]["trigger"] != "time"
    )


@DEMO_SHARES
async def test_a_demo_fitted_model_scores_alike_live_in_replay_and_in_one_pandas_batch(
    settings: Settings, tmp_path: Path, percent_of_households: int
) -> None:
    """Every customer of the demo, by the model that `ebbtide calibrate` fits to them, to a millionth."""
    log = demo_log(percent_of_households)
    files = {topic: [tmp_path / f"{topic}.jsonl"] for topic in INPUT_TOPICS}
    for topic in INPUT_TOPICS:
        files[topic][0].write_bytes(b"".join(line + b"\n" for line in log[topic]))
    path = tmp_path / "fitted.yaml"
    run_calibration(read_records(files), settings.load_model(), None, Wanted(), Outputs(path))
    settings = settings.model_copy(update={"clock": "event", "model": path})
    await make_topics(settings, PARTITIONS)
    await produce(settings, records_of(log, *INPUT_TOPICS))
    await run_to_the_end(settings, IN_TIME_S)
    of_replay = replayed(log, settings.load_model())
    live = await stored_profiles(settings, of_replay.end_us)
    oracle = rescore(
        read_log(**{topic: files[topic][0] for topic in INPUT_TOPICS}), yaml.safe_load(path.read_text())
    )
    assert len(oracle) > 20 * percent_of_households
    for profiles in (live.values(), of_replay.profiles):
        found = scores_of(profiles)
        expected = oracle[list(found.columns)].fillna(-1.0).sort_index()
        assert list(found.index) == list(expected.index)
        # Both are rounded to 6 decimals: where a tie is broken otherwise they differ by one of the last.
        assert float((found - expected).abs().to_numpy().max()) < 1.000001e-6
        at_stake = pd.Series({p["customer_id"]: p["traits"]["value_at_stake"] for p in profiles}, dtype=float)
        differences = (at_stake.reindex(oracle.index) - oracle["value_at_stake"]).abs().dropna()
        assert len(differences) > 20 * percent_of_households
        assert float(differences.max()) < 0.005 + 1e-5


def scores_of(profiles: Iterable[Any]) -> pd.DataFrame:
    """What `rescore` computes, of everyone who has scores, by customer id."""
    rows = {
        str(profile["customer_id"]): profile["scores"]
        | {
            name: profile["traits"][name]
            for name in ("probability_active", "churn_risk", "silence_risk", "expected_orders_365d")
        }
        for profile in profiles
        if profile["scores"]["value"] is not None
    }
    return pd.DataFrame.from_dict(rows, orient="index").astype(float).fillna(-1.0).sort_index()
