"""Topics are created as the contract says, and topics that would lose records are refused."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from streams.demo.embedded import EmbeddedBroker, free_port
from streams.errors import EbbtideError, UsageError
from streams.kafka import admin as admin_module
from streams.kafka.topics import TOPICS, TopicReport, TopicStatus, check_topics, create_topics, judge_topics
from streams.settings import Settings
from tests.services import KafkaService

NAMES = [
    "purchases",
    "engagements",
    "consents",
    "segment-changes",
    "customer-profiles",
    "reactivation-triggers",
    "dead-letters",
    "ebbtide-decisions",
]


def settings_for(bootstrap_servers: str, prefix: str = "") -> Settings:
    return Settings(kafka_bootstrap_servers=bootstrap_servers, topic_prefix=prefix)


@contextmanager
def admin(service: KafkaService) -> Iterator[KafkaAdminClient]:
    client = KafkaAdminClient(bootstrap_servers=service.bootstrap_servers)
    try:
        yield client
    finally:
        client.close()


def good_topics() -> list[TopicStatus]:
    """Eight topics of six partitions, as `create_topics` makes them on a broker that reports all settings."""
    defaults = {
        "cleanup.policy": "delete",
        "message.timestamp.type": "CreateTime",
        "max.message.bytes": "1048588",
    }
    return [
        TopicStatus(topic, topic.name, 6, 1, defaults | topic.settings(4 * 2**20 + 64 * 1024))
        for topic in TOPICS
    ]


def judged(name: str, **settings: str | None) -> TopicReport:
    """The report where one topic's settings differ from those created; None is not reported."""
    changes = {key.replace("_", "."): value for key, value in settings.items()}
    changed = []
    for topic in good_topics():
        if topic.name == name:
            merged = {**topic.settings, **changes}
            kept = {key: value for key, value in merged.items() if value is not None}
            topic = replace(topic, settings=kept)
        changed.append(topic)
    return judge_topics(Settings(), changed)


def test_topics_as_created_are_taken() -> None:
    """Nothing is said of topics that are as they should be."""
    report = judge_topics(Settings(), good_topics())
    assert (report.errors, report.warnings, report.partitions) == ((), (), 6)
    assert report.input_max_bytes == 4 * 2**20


def test_missing_topics_are_named_with_their_prefix() -> None:
    """One line names what is missing and the command that creates it."""
    report = judge_topics(Settings(topic_prefix="eu."), good_topics()[1:])
    assert report.errors == ("missing: eu.purchases (`ebbtide topics create` creates what is missing)",)
    assert report.partitions is None


@pytest.mark.parametrize("name", NAMES)
def test_a_topic_with_another_number_of_partitions_is_refused(name: str) -> None:
    """Inputs are co-partitioned, and output partition is input partition, for every topic."""
    changed = [replace(topic, partitions=5) if topic.name == name else topic for topic in good_topics()]
    report = judge_topics(Settings(), changed)
    assert report.partitions is None
    assert len(report.errors) == 1
    assert f"{name} has 5" in report.errors[0]


@pytest.mark.parametrize("name", ["purchases", "engagements", "consents"])
def test_an_input_with_the_producers_own_time_is_refused(name: str) -> None:
    """With CreateTime, retention deletes an old log that is sent again at once; a setting takes it anyway."""
    report = judged(name, message_timestamp_type="CreateTime")
    assert len(report.errors) == 1
    assert f"message.timestamp.type of {name} is CreateTime" in report.errors[0]
    allowed = judge_topics(Settings(allow_create_time=True), report.topics)
    assert (allowed.errors, len(allowed.warnings)) == ((), 1)


def test_decisions_with_the_workers_own_time_are_warned_of() -> None:
    """The broker's stamps there tell the worker whether its clock is right."""
    report = judged("ebbtide-decisions", message_timestamp_type="CreateTime")
    assert report.errors == ()
    assert len(report.warnings) == 1
    assert "message.timestamp.type of ebbtide-decisions is CreateTime" in report.warnings[0]


@pytest.mark.parametrize("name", ["ebbtide-decisions", "customer-profiles"])
@pytest.mark.parametrize("policy", ["delete", "compact,delete"])
def test_a_topic_that_must_keep_the_latest_is_refused_where_age_deletes(name: str, policy: str) -> None:
    """Compacted topics hold the latest record per key for as long as there is one."""
    assert judged(name, cleanup_policy=policy).errors == (
        f"cleanup.policy of {name} must be compact, not {policy}",
    )


def test_a_compacted_input_is_refused_and_a_compacted_output_warned_of() -> None:
    """Compaction would drop all but each customer's last record."""
    assert (
        "cleanup.policy of purchases must be delete"
        in judged("purchases", cleanup_policy="compact").errors[0]
    )
    report = judged("segment-changes", cleanup_policy="compact")
    assert (report.errors, len(report.warnings)) == ((), 1)


def test_dead_letters_hold_the_largest_input_record_and_64_kib() -> None:
    """A record of the inputs' largest size must fit into dead-letters together with its headers."""
    needed = 4 * 2**20 + 64 * 1024
    assert judged("dead-letters", max_message_bytes=str(needed)).errors == ()
    report = judged("dead-letters", max_message_bytes=str(needed - 1))
    assert report.errors == (
        "max.message.bytes of dead-letters must be at least 4259840 "
        "(the inputs' largest, 4194304, and 64 KiB), not 4259839",
    )
    assert "at least 8454144" in judged("consents", max_message_bytes=str(8 * 2**20)).errors[0]


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("purchases", "message.timestamp.type"),
        ("dead-letters", "max.message.bytes"),
        ("ebbtide-decisions", "cleanup.policy"),
    ],
)
def test_a_setting_that_the_broker_does_not_report_is_only_warned_about(name: str, setting: str) -> None:
    """Brokers other than Apache Kafka's do not report all settings."""
    report = judged(name, **{setting: None})
    assert report.errors == ()
    assert report.warnings == (f"the broker does not report {setting} of {name}",)


@pytest.mark.real_kafka
def test_topics_are_created_as_the_contract_says(kafka: KafkaService, unique_prefix: str) -> None:
    """All eight, with prefix: inputs and decisions stamped by the broker, two compacted, room in dead-letters."""
    settings = settings_for(kafka.bootstrap_servers, unique_prefix)
    assert create_topics(settings, 3, 1) == [f"{unique_prefix}{name}" for name in NAMES]
    report = check_topics(settings)
    assert (report.errors, report.warnings, report.partitions) == ((), (), 3)
    reported = {topic.definition.name: topic.settings for topic in report.topics}
    for name in ("purchases", "engagements", "consents"):
        assert reported[name]["message.timestamp.type"] == "LogAppendTime"
        assert reported[name]["cleanup.policy"] == "delete"
    assert reported["ebbtide-decisions"]["message.timestamp.type"] == "LogAppendTime"
    compacted = [name for name in NAMES if reported[name]["cleanup.policy"] == "compact"]
    assert compacted == ["customer-profiles", "ebbtide-decisions"]
    sizes = {name: int(reported[name]["max.message.bytes"]) for name in NAMES}
    assert sizes["dead-letters"] == sizes["purchases"] + 64 * 1024


@pytest.mark.real_kafka
def test_creating_again_creates_nothing(kafka: KafkaService, unique_prefix: str) -> None:
    """A second run leaves topics as they are, and refuses another number of partitions."""
    settings = settings_for(kafka.bootstrap_servers, unique_prefix)
    create_topics(settings, 2, 1)
    assert create_topics(settings) == []
    assert create_topics(settings, 2) == []
    with pytest.raises(UsageError, match="--partitions: must be what existing topics have, not 4"):
        create_topics(settings, 4)


@pytest.mark.real_kafka
def test_what_is_missing_is_created_to_fit_what_is_there(kafka: KafkaService, unique_prefix: str) -> None:
    """Missing topics get the others' partitions, and dead-letters has room for the largest input record."""
    settings = settings_for(kafka.bootstrap_servers, unique_prefix)
    with admin(kafka) as client:
        own = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": str(6 * 2**20)}
        client.create_topics(
            {f"{unique_prefix}purchases": {"num_partitions": 5, "replication_factor": 1, "configs": own}}
        )
        client.wait_for_topics([f"{unique_prefix}purchases"], timeout_ms=30_000)
    assert len(create_topics(settings)) == 7
    report = check_topics(settings)
    assert (report.errors, report.partitions, report.input_max_bytes) == ((), 5, 6 * 2**20)


@pytest.mark.real_kafka
def test_what_was_changed_on_the_broker_is_found(kafka: KafkaService, unique_prefix: str) -> None:
    """Partitions added to one topic, CreateTime on another and a smaller limit are three errors."""
    settings = settings_for(kafka.bootstrap_servers, unique_prefix)
    create_topics(settings, 2, 1)
    with admin(kafka) as client:
        client.create_partitions({f"{unique_prefix}consents": 3})
        changes = {
            "purchases": {"message.timestamp.type": "CreateTime"},
            "dead-letters": {"max.message.bytes": "1048588"},
        }
        client.alter_configs(
            [
                ConfigResource(ConfigResourceType.TOPIC, f"{unique_prefix}{name}", configs)
                for name, configs in changes.items()
            ]
        )
    deadline = time.monotonic() + 30
    while len(errors := check_topics(settings).errors) < 3 and time.monotonic() < deadline:
        time.sleep(0.1)  # a broker learns of changes a moment after they are made
    assert len(errors) == 3
    assert f"{unique_prefix}consents has 3" in errors[0]
    assert f"{unique_prefix}purchases is CreateTime" in errors[1]
    assert f"{unique_prefix}dead-letters must be at least" in errors[2]


@pytest.mark.real_kafka
def test_asking_for_topics_creates_none(kafka: KafkaService, unique_prefix: str) -> None:
    """A check never makes a topic, whatever the broker's auto.create.topics.enable."""
    settings = settings_for(kafka.bootstrap_servers, unique_prefix)
    assert check_topics(settings).topics == ()
    with admin(kafka) as client:
        assert not [name for name in client.list_topics() if name.startswith(unique_prefix)]


@pytest.mark.real_kafka
def test_a_broker_that_refuses_is_quoted_in_one_line(kafka: KafkaService, unique_prefix: str) -> None:
    """More replicas than brokers cannot be had."""
    settings = settings_for(kafka.bootstrap_servers, unique_prefix)
    with pytest.raises(
        EbbtideError, match=r"^topic .* could not be created: .*replication factor.*$"
    ) as caught:
        create_topics(settings, 1, 1000)
    assert caught.value.exit_code == 1


def test_the_embedded_broker_has_them_all_without_errors(
    embedded_broker: EmbeddedBroker, unique_prefix: str
) -> None:
    """The embedded broker takes the same topics; what it does not report is no error."""
    settings = settings_for(embedded_broker.bootstrap_servers, unique_prefix)
    assert len(create_topics(settings, 4)) == 8
    report = check_topics(settings)
    assert (report.errors, report.partitions) == ((), 4)


@pytest.mark.parametrize("address", ["127.0.0.1", "no-such-host.invalid"])
def test_a_broker_that_does_not_answer_is_named_with_its_setting(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line says where no broker answers, and which setting says so."""
    monkeypatch.setattr(admin_module, "TIMEOUT_S", 0.5)
    servers = f"{address}:{free_port()}"
    with pytest.raises(EbbtideError) as caught:
        check_topics(settings_for(servers))
    expected = f"no Kafka broker answers within 0.5 s at {servers} (setting EBBTIDE_KAFKA_BOOTSTRAP_SERVERS)"
    assert str(caught.value) == expected
