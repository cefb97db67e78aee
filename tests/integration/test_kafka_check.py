"""A Kafka that answers, but cannot be worked with, is told by its cause."""

from __future__ import annotations

import pytest

from streams.kafka.topics import create_topics
from streams.operations.doctor import check_kafka
from streams.settings import Settings
from tests.integration.harness import make_settings
from tests.services import KafkaService, OwnRedis

pytestmark = pytest.mark.real_kafka


@pytest.fixture
def settings(own_kafka: KafkaService, own_redis: OwnRedis, unique_prefix: str) -> Settings:
    return make_settings(own_kafka.bootstrap_servers, own_redis.url, unique_prefix)


def errors(settings: Settings) -> list[str]:
    return [finding.message for finding in check_kafka(settings) if finding.status == "error"]


def test_an_advertised_listener_that_cannot_be_resolved_is_named(
    settings: Settings, own_kafka: KafkaService
) -> None:
    """Kafka answers where the setting says, and then sends its clients elsewhere."""
    create_topics(settings, 1, 1)
    assert own_kafka.lost_servers is not None
    port = own_kafka.lost_servers.rpartition(":")[2]
    (line,) = errors(settings.model_copy(update={"kafka_bootstrap_servers": own_kafka.lost_servers}))
    assert f"sends its clients on to no-such-host.invalid:{port}, which this machine cannot resolve" in line
    assert own_kafka.lost_servers in line
