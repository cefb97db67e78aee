"""Fixtures of a worker on real Kafka and Redis."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from streams.replay.replay import NAMESPACE
from streams.settings import Settings
from tests.enrichment.driver import SEEDED_MODEL
from tests.integration.harness import make_settings, write_model
from tests.services import KafkaService, RedisService


@pytest.fixture
def settings(kafka: KafkaService, redis_server: RedisService, unique_prefix: str) -> Settings:
    """Of a group of the test's own, with the built-in model and the wall clock."""
    return make_settings(kafka.bootstrap_servers, redis_server.url, unique_prefix)


@pytest.fixture
def seeded_settings(
    kafka: KafkaService, redis_server: RedisService, unique_prefix: str, tmp_path: Path
) -> Settings:
    """For seeded logs: their model, and replay's own namespace, so that ids are those of replay too."""
    model = write_model(tmp_path / "model.yaml", SEEDED_MODEL)
    return make_settings(
        kafka.bootstrap_servers, redis_server.url, unique_prefix, namespace=NAMESPACE, model=model
    )


@pytest.fixture
def redis_client(redis_server: RedisService) -> Iterator[Redis]:
    """A client of the Redis that all tests share."""
    with redis_server.client() as client:
        yield client
