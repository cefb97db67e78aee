"""`calibrate --from-kafka` and `--from-redis`: the history that the topics or the states hold, without files."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

from schemas.topics import INPUT_TOPICS, PURCHASES
from streams.console.refusals import Refusals
from streams.insight.calibrate import Outputs, Wanted, run_calibration
from streams.insight.kafka_history import lines_of_topics
from streams.replay.reading import read_records
from streams.settings import Settings
from tests.integration.harness import make_topics, process_environment, produce, running, until_idle
from tests.integration.test_equivalence import PARTITIONS, demo_log, records_of
from tests.services.fork_server import run_forked


def calibrate(settings: Settings, *options: str | Path) -> subprocess.CompletedProcess[str]:
    """The command, with these settings."""
    arguments = ["streams", "calibrate", *map(str, options)]
    return run_forked(arguments, process_environment(settings))


async def test_the_topics_give_the_model_that_the_files_give(settings: Settings, tmp_path: Path) -> None:
    """Bytes of model and report are equal, however the records lie in partitions; oracle: the files."""
    log = demo_log(3)
    files = {topic: [tmp_path / f"{topic}.jsonl"] for topic in INPUT_TOPICS}
    for topic in INPUT_TOPICS:
        files[topic][0].write_bytes(b"".join(line + b"\n" for line in log[topic]))
    of_files = tmp_path / "of files.yaml", tmp_path / "of files.json"
    run_calibration(read_records(files), settings.load_model(), None, Wanted(), Outputs(*of_files))
    await make_topics(settings, PARTITIONS)
    await produce(settings, records_of(log, *INPUT_TOPICS))
    model, report = tmp_path / "model.yaml", tmp_path / "report.json"
    done = await asyncio.to_thread(calibrate, settings, "--from-kafka", "--out", model, "--report", report)
    assert done.returncode == 0, done.stderr
    assert (model.read_bytes(), report.read_bytes()) == tuple(path.read_bytes() for path in of_files)


async def test_a_record_that_is_refused_is_named_by_its_place_in_kafka(
    settings: Settings, tmp_path: Path
) -> None:
    """As the worker refuses it: one that is no JSON, and one whose key is another than its customer."""
    log = demo_log(3)
    records = list(records_of(log, *INPUT_TOPICS))
    purchase = next(record for record in records if record.topic == PURCHASES)
    wrong = [purchase._replace(value=b"{"), purchase._replace(key=b"somebody else")]
    await make_topics(settings, PARTITIONS)
    await produce(settings, [*wrong, *records])
    lines = await asyncio.to_thread(lambda: list(lines_of_topics(settings)))
    refusals = Refusals()
    outputs = Outputs(tmp_path / "model.yaml")
    run_calibration(lines, settings.load_model(), None, Wanted(), outputs, refusals=refusals)
    assert dict(refusals.by_reason) == {"Malformed": 1, "KeyMismatch": 1}
    place = f"{settings.topic(PURCHASES)}, partition {purchase.partition}, offset"
    assert str(refusals.examples["Malformed"]).startswith(f"{place} 0: ")
    assert str(refusals.examples["KeyMismatch"]).startswith(f"{place} 1: ")


async def test_the_states_give_the_model_that_the_topics_give(settings: Settings, tmp_path: Path) -> None:
    """Of a history that Redis holds whole; only the report's lines on the records differ. Oracle: the topics."""
    await make_topics(settings, PARTITIONS)
    await produce(settings, records_of(demo_log(3), *INPUT_TOPICS))
    of_topics, of_states = tmp_path / "topics.yaml", tmp_path / "states.yaml"
    settings = settings.model_copy(update={"clock": "event"})
    async with running(settings) as worker:
        await until_idle(settings, worker)
    for flag, out in (("--from-kafka", of_topics), ("--from-redis", of_states)):
        done = await asyncio.to_thread(calibrate, settings, flag, "--out", out)
        assert done.returncode == 0, done.stderr
    assert of_states.read_bytes() == of_topics.read_bytes()


async def test_a_redis_that_holds_nothing_of_the_group_is_named(settings: Settings, tmp_path: Path) -> None:
    """And no model is written."""
    done = await asyncio.to_thread(calibrate, settings, "--from-redis", "--out", tmp_path / "model.yaml")
    assert done.returncode == 1
    assert "holds nothing of group" in done.stderr
    assert not list(tmp_path.iterdir())
