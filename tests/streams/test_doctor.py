"""What must hold around the worker is checked, and each thing that does not is one clear line."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import redis

from ebbtide.testing.services.ports import lasting_port
from streams.demo.embedded import EmbeddedBroker, free_port
from streams.errors import EbbtideError
from streams.kafka import admin
from streams.kafka.topics import create_topics
from streams.operations.doctor import (
    Finding,
    check_clock,
    check_erasure_key,
    check_kafka,
    check_model,
    check_redis,
    check_transactions,
    is_old_redis,
    require,
    run_checks,
)
from streams.settings import Settings
from tests.services import KafkaService, OwnRedis, RedisService

OWN_KEY = "a-key-of-my-own-0123456789"


def errors(findings: list[Finding]) -> list[str]:
    return [finding.message for finding in findings if finding.status == "error"]


@pytest.mark.real_kafka
def test_a_healthy_installation_has_no_findings_but_ok(
    kafka: KafkaService, redis_server: RedisService, unique_prefix: str, model_file: Path
) -> None:
    """Kafka with topics and transactions, Redis that never evicts, clocks that agree, key and model of one's own."""
    settings = Settings(
        kafka_bootstrap_servers=kafka.bootstrap_servers,
        redis_url=redis_server.url,
        topic_prefix=unique_prefix,
        erasure_key=OWN_KEY,
        web_port=lasting_port(),
        model=model_file,
    )
    create_topics(settings, 2, 1)
    findings = run_checks(settings)
    assert [finding for finding in findings if finding.status != "ok"] == []
    checks = ["settings", "model", "core", "kafka", "topics", "transactions", "redis"]
    checks += ["partitions", "clock", "web port", "erasure key"]
    assert list(dict.fromkeys(finding.check for finding in findings)) == checks
    assert require(findings) == []


@pytest.mark.parametrize(
    ("version", "is_old"),
    [("6.0.16", True), ("6.2.0", False), ("7.2.4", False), ("10.0.1", False), ("", False)],
)
def test_a_redis_that_lacks_a_command_is_too_old(version: str, is_old: bool) -> None:
    """Of these versions no server is at hand."""
    assert is_old_redis(version) == is_old


@pytest.mark.real_kafka
async def test_checks_run_inside_an_event_loop(kafka: KafkaService, unique_prefix: str) -> None:
    """The worker may check from a coroutine."""
    settings = Settings(kafka_bootstrap_servers=kafka.bootstrap_servers, group_id=f"{unique_prefix}group")
    assert errors(check_transactions(settings)) == []


@pytest.mark.real_kafka
def test_missing_topics_are_an_error(kafka: KafkaService, unique_prefix: str) -> None:
    """A worker without topics does not start."""
    settings = Settings(kafka_bootstrap_servers=kafka.bootstrap_servers, topic_prefix=unique_prefix)
    with pytest.raises(EbbtideError, match=rf"^topics: missing: {unique_prefix}purchases, .*$"):
        require(check_kafka(settings))


def test_exactly_once_is_refused_on_a_broker_without_transactions(
    embedded_broker: EmbeddedBroker, unique_prefix: str
) -> None:
    """The embedded broker lists transactions among its requests, yet the worker's client cannot use them."""
    servers = embedded_broker.bootstrap_servers
    settings = Settings(kafka_bootstrap_servers=servers, topic_prefix=unique_prefix)
    create_topics(settings, 1)
    found = errors(check_kafka(settings))
    assert len(found) == 1
    assert "no transactions for exactly_once" in found[0]
    assert "EBBTIDE_PROCESSING_GUARANTEE=at_least_once" in found[0]
    relaxed = settings.model_copy(update={"processing_guarantee": "at_least_once"})
    assert errors(check_kafka(relaxed)) == []


def test_an_unreachable_broker_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing more is asked of a broker that does not answer."""
    monkeypatch.setattr(admin, "TIMEOUT_S", 0.5)
    servers = f"127.0.0.1:{free_port()}"
    findings = check_kafka(Settings(kafka_bootstrap_servers=servers))
    assert [(finding.check, finding.status) for finding in findings] == [("kafka", "error")]
    assert servers in findings[0].message


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_redis_that_may_evict_is_refused(policy: str, own_redis: OwnRedis) -> None:
    """An evicted key would read as a customer never seen before."""
    with own_redis.client() as client:
        client.config_set("maxmemory-policy", policy)
    found = errors(check_redis(Settings(redis_url=own_redis.url)))
    assert len(found) == 1
    assert found[0].endswith(f"must be noeviction, not {policy}")


def test_an_unreachable_redis_is_named_with_its_setting() -> None:
    """The line holds the address and the setting, and no password."""
    settings = Settings(redis_url=f"redis://me:hunter2@127.0.0.1:{free_port()}/0")
    (found,) = errors(check_redis(settings))
    assert found.startswith(f"Redis does not answer at {settings.redis_address} (setting EBBTIDE_REDIS_URL)")
    assert "hunter2" not in found
    assert check_clock(settings) == []


def test_a_redis_that_refuses_the_password_is_an_error(own_redis: OwnRedis) -> None:
    """What Redis says of it is in the line."""
    with own_redis.client() as client:
        client.config_set("requirepass", "right")
    wrong = own_redis.url.replace("redis://", "redis://:wrong@")
    (found,) = errors(check_redis(Settings(redis_url=wrong)))
    assert "invalid username-password pair" in found
    right = own_redis.url.replace("redis://", "redis://:right@")
    assert errors(check_redis(Settings(redis_url=right))) == []
    with redis.Redis.from_url(right) as client:
        client.config_set("requirepass", "")


@pytest.mark.parametrize("skew_s", [-45.0, 45.0])
def test_a_clock_that_is_off_is_an_error_for_the_wall_clock_only(
    skew_s: float, redis_server: RedisService
) -> None:
    """45 seconds from Redis' TIME are more than the 30 that are allowed, whichever is ahead."""
    settings = Settings(redis_url=redis_server.url)

    def skewed_s() -> float:
        return time.time() + skew_s

    assert [finding.status for finding in check_clock(settings, skewed_s)] == ["error"]
    by_event = settings.model_copy(update={"clock": "event"})
    assert [finding.status for finding in check_clock(by_event, skewed_s)] == ["warning"]
    patient = settings.model_copy(update={"max_clock_skew_s": 60.0})
    assert [finding.status for finding in check_clock(patient, skewed_s)] == ["ok"]


def test_the_built_in_model_is_warned_of_with_the_command_that_fits_another(model_file: Path) -> None:
    """It scores by guesses; a file of one's own is fine, also where it holds the same numbers."""
    (found,) = check_model(Settings())
    assert found.status == "warning"
    assert found.message.startswith("default 1 (built in), in USD: its numbers are guesses")
    assert "ebbtide calibrate --from-kafka --out model.yaml" in found.message
    assert [finding.status for finding in check_model(Settings(model=model_file))] == ["ok"]


def test_a_model_that_cannot_be_loaded_is_an_error() -> None:
    """The doctor goes on to the other checks."""
    (found,) = errors(check_model(Settings(model="/nowhere/model.yaml")))
    assert found.startswith("EBBTIDE_MODEL: ")


def test_the_built_in_erasure_key_is_an_error(redis_url: str, unique_prefix: str) -> None:
    """It is in the source code, so it hides nothing; a key of one's own is named by its fingerprint."""
    with pytest.raises(
        EbbtideError, match=r"^erasure key: the built-in key hides nothing.*EBBTIDE_ERASURE_KEY"
    ):
        require(check_erasure_key(Settings()))
    own = Settings(erasure_key=OWN_KEY, redis_url=redis_url, topic_prefix=unique_prefix)
    (finding,) = check_erasure_key(own)
    assert (finding.status, finding.message) == (
        "ok",
        f"set, with fingerprint {own.erasure_keys.fingerprints[0]}",
    )
    assert OWN_KEY not in finding.message


def test_all_errors_are_in_one_line() -> None:
    """Whoever starts the worker sees at once all that is wrong."""
    findings = [Finding("a", "error", "one"), Finding("b", "warning", "two"), Finding("c", "error", "three")]
    with pytest.raises(EbbtideError, match=r"^a: one; c: three$"):
        require(findings)
