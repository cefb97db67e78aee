"""A Kafka that answers, but cannot be worked with, is told by its cause."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from kafka.admin import ACL, ACLFilter, ACLOperation, ACLPermissionType, ResourcePattern, ResourceType

from streams.doctor import check_kafka
from streams.settings import Settings
from streams.topics import create_topics
from tests.integration.damage import admin
from tests.integration.harness import make_settings
from tests.services import KafkaService, OwnRedis

pytestmark = pytest.mark.real_kafka

RIGHTS = [
    (ResourceType.TOPIC, "purchases", ACLOperation.READ, "Read on topic {prefix}purchases"),
    (ResourceType.TOPIC, "segment-changes", ACLOperation.WRITE, "Write on topic {prefix}segment-changes"),
    (ResourceType.TOPIC, "ebbtide-decisions", ACLOperation.READ, "Read on topic {prefix}ebbtide-decisions"),
    (ResourceType.TOPIC, "consents", ACLOperation.ALL, "Describe on topic {prefix}consents"),
    (ResourceType.GROUP, "group", ACLOperation.READ, "Read on group {prefix}group"),
    (ResourceType.GROUP, "group", ACLOperation.ALL, "Read on group {prefix}group"),
    (ResourceType.TRANSACTIONAL_ID, None, ACLOperation.ALL, "Write and Describe on transactional id "),
]


@pytest.fixture
def settings(own_kafka: KafkaService, own_redis: OwnRedis, unique_prefix: str) -> Settings:
    return make_settings(own_kafka.bootstrap_servers, own_redis.url, unique_prefix)


def errors(settings: Settings) -> list[str]:
    return [finding.message for finding in check_kafka(settings) if finding.status == "error"]


@contextmanager
def denied(
    settings: Settings, resource: ResourceType, name: str | None, operation: ACLOperation
) -> Iterator[None]:
    """Inside the block, nobody may do this."""
    full = "*" if name is None else f"{settings.topic_prefix}{name}"
    rule = ACL("User:*", "*", operation, ACLPermissionType.DENY, ResourcePattern(resource, full))
    rest = ACL("User:*", "*", ACLOperation.ALL, ACLPermissionType.ALLOW, ResourcePattern(resource, full))
    with admin(settings) as client:
        client.create_acls([rest, rule])
        try:
            yield
        finally:
            filters = [
                ACLFilter(each.principal, "*", each.operation, each.permission_type, each.resource_pattern)
                for each in (rule, rest)
            ]
            client.delete_acls(filters)


@pytest.mark.parametrize(("resource", "name", "operation", "right"), RIGHTS)
def test_a_right_that_is_missing_is_named(
    settings: Settings, resource: ResourceType, name: str | None, operation: ACLOperation, right: str
) -> None:
    """With the topic, the group or the transactional id; without the rule, nothing is said."""
    create_topics(settings, 1, 1)
    assert errors(settings) == []
    with denied(settings, resource, name, operation):
        (line,) = errors(settings)
    assert line.startswith("this account lacks rights in Kafka: ")
    assert right.format(prefix=settings.topic_prefix) in line


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
