"""How `ebbtide run` starts, or says in one line why it does not."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from streams.demo.embedded import free_port
from streams.settings import Settings
from tests.integration.damage import admin
from tests.integration.harness import (
    ROOT,
    make_settings,
    make_topics,
    process_environment,
    running,
    until_idle,
    worker_process,
)
from tests.services import KafkaService, OwnRedis
from tests.services.fork_server import run_forked

pytestmark = pytest.mark.real_kafka


@pytest.fixture
def settings(kafka: KafkaService, own_redis: OwnRedis, unique_prefix: str) -> Settings:
    return make_settings(kafka.bootstrap_servers, own_redis.url, unique_prefix)


def refusal(
    settings: Settings, more: Mapping[str, str] | None = None, arguments: Sequence[str] = ()
) -> tuple[int, str]:
    """The exit code of a `run` that does not start, and its one line of error."""
    done = run_forked(["streams", "run", *arguments], {**process_environment(settings), **(more or {})})
    errors = [line for line in done.stderr.splitlines() if "error" in line.lower() or "Traceback" in line]
    assert len(errors) == 1, done.stderr
    assert errors[0].startswith("ebbtide: error: ")
    return done.returncode, errors[0]


async def test_unequal_numbers_of_partitions_are_refused(settings: Settings) -> None:
    """The line says which input has how many."""
    await make_topics(settings, 2)
    with admin(settings) as client:
        client.create_partitions({settings.topic("engagements"): 3})
    code, line = refusal(settings)
    assert code == 1
    assert "numbers of partitions must be equal" in line
    assert f"{settings.topic('engagements')} has 3" in line


def test_missing_topics_are_refused_with_the_command_that_creates_them(settings: Settings) -> None:
    """Nothing is created on the way."""
    code, line = refusal(settings)
    assert code == 1
    assert "ebbtide topics create" in line


async def test_a_kafka_that_does_not_answer_is_named_with_its_setting(settings: Settings) -> None:
    """Within the time that a connection may take."""
    nowhere = f"127.0.0.1:{free_port()}"
    code, line = refusal(settings.model_copy(update={"kafka_bootstrap_servers": nowhere}))
    assert code == 1
    assert nowhere in line
    assert "EBBTIDE_KAFKA_BOOTSTRAP_SERVERS" in line


async def test_a_redis_that_does_not_answer_is_named_with_its_setting(
    settings: Settings, own_redis: OwnRedis
) -> None:
    """Kafka and the topics being well."""
    await make_topics(settings)
    own_redis.kill()
    code, line = refusal(settings)
    assert code == 1
    assert "EBBTIDE_REDIS_URL" in line


async def test_a_redis_that_may_evict_is_refused(settings: Settings, own_redis: OwnRedis) -> None:
    """An evicted key would read as a new customer."""
    await make_topics(settings)
    with own_redis.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    code, line = refusal(settings)
    assert code == 1
    assert "must be noeviction, not allkeys-lru" in line


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.deep)])
def test_a_taken_web_port_is_refused_in_one_line(settings: Settings, workers: str) -> None:
    """Whichever of the ports it is, and before anything is asked of Kafka."""
    with socket.create_server((settings.web_bind, settings.web_port + int(workers) - 1)) as stranger:
        code, line = refusal(settings, arguments=["--workers", workers])
        address = f"127.0.0.1:{stranger.getsockname()[1]}"
    assert code == 1
    assert f"{address} is taken by something that is not a worker of ours" in line
    assert "EBBTIDE_WEB_PORT" in line


async def test_the_built_in_erasure_key_is_refused_however_the_worker_is_started(settings: Settings) -> None:
    """Everyone knows it, so erased ids would be no secret; the line says what to set."""
    await make_topics(settings)
    built_in = {"EBBTIDE_ERASURE_KEY": ""}
    code, line = refusal(settings, built_in)
    assert code == 1
    assert "erasure key: the built-in key hides nothing" in line
    assert "EBBTIDE_ERASURE_KEY" in line
    faust = subprocess.run(
        [sys.executable, "-m", "faust", "-A", "streams.app", "worker"],
        env={**process_environment(settings), **built_in},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert faust.returncode != 0
    assert "the built-in key hides nothing" in faust.stderr


async def test_another_erasure_key_is_refused_in_one_line(settings: Settings) -> None:
    """Before anything is taken over; the key itself is not shown."""
    await make_topics(settings)
    async with running(settings) as worker:
        await until_idle(settings, worker)
    code, line = refusal(settings, {"EBBTIDE_ERASURE_KEY": "not the key of before"})
    assert code == 1
    assert "erasure key: erasures may be remembered under another erasure key" in line
    assert "not the key of before" not in line


def test_a_broken_model_file_is_wrong_use(settings: Settings, tmp_path: Path) -> None:
    """The line names the file."""
    model = tmp_path / "model.yaml"
    model.write_text("name: [", encoding="utf-8")
    code, line = refusal(settings, {"EBBTIDE_MODEL": str(model)})
    assert code == 2
    assert str(model) in line


def test_an_unknown_setting_is_wrong_use(settings: Settings) -> None:
    """The line names it, and what it may have meant."""
    code, line = refusal(settings, {"EBBTIDE_GRUOP_ID": "mine"})
    assert code == 2
    assert "EBBTIDE_GRUOP_ID" in line
    assert "EBBTIDE_GROUP_ID" in line


@pytest.mark.parametrize(
    "command", [("streams", "run"), ("faust", "-A", "streams.app", "worker")], ids=["ebbtide", "faust"]
)
async def test_a_worker_says_that_it_is_healthy_and_ready(
    settings: Settings, tmp_path: Path, command: Sequence[str]
) -> None:
    """/healthz and /readyz answer 200 once its partitions run; SIGTERM ends it with exit code 0."""
    await make_topics(settings, 2)
    with worker_process(settings, tmp_path / "worker.log", command=command) as worker:

        def is_ready() -> bool:
            answer = worker.readiness()
            return answer is not None and answer[0] == 200 and len(answer[1]["partitions"]) == 2

        await worker.until(is_ready, "ready")
        address = f"http://{settings.web_bind}:{settings.web_port}/healthz"
        with urllib.request.urlopen(address, timeout=5) as answer:
            assert (answer.status, json.loads(answer.read())) == (200, {"status": "ok"})
        assert worker.terminate() == 0
