"""The eight topics: how they are created, and whether those on the broker are as the worker needs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from uuid import UUID

from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import for_code

from schemas.topics import (
    CHANGELOG,
    CONSENTS,
    CUSTOMER_PROFILES,
    DEAD_LETTERS,
    ENGAGEMENTS,
    PURCHASES,
    REACTIVATION_TRIGGERS,
    SEGMENT_CHANGES,
)
from streams.errors import EbbtideError, UsageError, one_line
from streams.kafka.admin import TIMEOUT_S, admin_client, lost_listeners, unresolved_listeners
from streams.settings import PREFIX, Settings
from streams.settings.kafka_security import lacks_rights

DEFAULT_PARTITIONS: Final = 8
INPUT_MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024
"""Of input topics created here: values above 1 MiB must get through, to become dead letters."""
DEAD_LETTER_ROOM_BYTES: Final = 64 * 1024
"""What a dead letter may have on top of its original: key and headers."""

TIMESTAMP_TYPE: Final = "message.timestamp.type"
CLEANUP_POLICY: Final = "cleanup.policy"
MAX_MESSAGE_BYTES: Final = "max.message.bytes"

_NO_ID: Final = str(UUID(int=0))
_UNKNOWN_TOPIC: Final = 3
_LEADER_NOT_AVAILABLE: Final = 5
TOPIC_REFUSED: Final = 29
_TOPIC_ALREADY_EXISTS: Final = 36


@dataclass(frozen=True, slots=True)
class TopicDefinition:
    """A topic as docs/contract.md describes it; `name` is without prefix."""

    name: str
    direction: Literal["in", "out", "internal"]
    compact: bool = False

    def settings(self, dead_letter_max_bytes: int) -> dict[str, str]:
        """The broker settings that the topic is created with; all others are the broker's defaults."""
        if self.direction == "in":
            return {TIMESTAMP_TYPE: "LogAppendTime", MAX_MESSAGE_BYTES: str(INPUT_MAX_MESSAGE_BYTES)}
        if self.name == DEAD_LETTERS:
            return {MAX_MESSAGE_BYTES: str(dead_letter_max_bytes)}
        roomy = {MAX_MESSAGE_BYTES: str(INPUT_MAX_MESSAGE_BYTES)}
        compact = {CLEANUP_POLICY: "compact"} if self.compact else {}
        # By its stamps the broker tells the worker the time.
        stamped = {TIMESTAMP_TYPE: "LogAppendTime"} if self.direction == "internal" else {}
        return {**compact, **roomy, **stamped}


TOPICS: Final = (
    TopicDefinition(PURCHASES, "in"),
    TopicDefinition(ENGAGEMENTS, "in"),
    TopicDefinition(CONSENTS, "in"),
    TopicDefinition(SEGMENT_CHANGES, "out"),
    TopicDefinition(CUSTOMER_PROFILES, "out", compact=True),
    TopicDefinition(REACTIVATION_TRIGGERS, "out"),
    TopicDefinition(DEAD_LETTERS, "out"),
    TopicDefinition(CHANGELOG, "internal", compact=True),
)
INPUTS: Final = tuple(topic.name for topic in TOPICS if topic.direction == "in")


@dataclass(frozen=True, slots=True)
class TopicStatus:
    """A topic as the broker reports it; `name` is the full one, and `settings` holds what was reported."""

    definition: TopicDefinition
    name: str
    partitions: int
    replicas: int
    settings: Mapping[str, str]

    @property
    def max_message_bytes(self) -> int | None:
        """The largest record batch that the topic takes; None where the broker does not say."""
        value = self.settings.get(MAX_MESSAGE_BYTES, "")
        return int(value) if value.isdigit() else None


@dataclass(frozen=True, slots=True)
class TopicReport:
    """What `check_topics` found. `partitions` is the topics' common count; None where there is none."""

    topics: tuple[TopicStatus, ...]
    partitions: int | None
    errors: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def input_max_bytes(self) -> int | None:
        """The inputs' largest `max.message.bytes`; None where the broker does not say."""
        return _largest_input_bytes(self.topics)


def create_topics(
    settings: Settings, partitions: int | None = None, replication_factor: int | None = None
) -> list[str]:
    """Create the topics that are missing; gives their full names, and leaves the others as they are.

    Args:
        settings: where the broker is, and the prefix.
        partitions: of each topic; None for as many as those that exist have, else `DEFAULT_PARTITIONS`.
        replication_factor: None for the broker's default.

    Raises:
        UsageError: topics exist with another number of partitions than asked for.
        EbbtideError: the broker does not answer, or refuses.
    """
    with admin_client(settings) as admin:
        existing = _existing(admin, settings)
        count = _partitions_to_create(existing, partitions)
        dead_letter_bytes = DEAD_LETTER_ROOM_BYTES + max(
            INPUT_MAX_MESSAGE_BYTES, _largest_input_bytes(existing) or 0
        )
        there = {topic.definition.name for topic in existing}
        wanted = {
            settings.topic(topic.name): {
                "num_partitions": count,
                "replication_factor": -1 if replication_factor is None else replication_factor,
                "configs": topic.settings(dead_letter_bytes),
            }
            for topic in TOPICS
            if topic.name not in there
        }
        if not wanted:
            return []
        answer = admin.create_topics(wanted, raise_errors=False)
        created = [topic["name"] for topic in answer["topics"] if topic["error_code"] == 0]
        for topic in answer["topics"]:
            if topic["error_code"] == TOPIC_REFUSED:
                raise EbbtideError(lacks_rights(settings, f"Create on topic {topic['name']}"))
            if topic["error_code"] not in (0, _TOPIC_ALREADY_EXISTS):
                reason = topic["error_message"] or f"error {topic['error_code']}"
                raise EbbtideError(f"topic {topic['name']} could not be created: {one_line(reason)}")
        admin.wait_for_topics(list(wanted), timeout_ms=int(TIMEOUT_S * 1000))
        return created


def check_topics(settings: Settings) -> TopicReport:
    """Compare the topics on the broker with what the worker needs.

    Errors are what the worker must not start with; a setting that the broker does not report is a warning.

    Raises:
        EbbtideError: the broker does not answer.
    """
    with admin_client(settings) as admin:
        topics = _existing(admin, settings)
        if lost := unresolved_listeners(admin):
            raise EbbtideError(lost_listeners(settings.kafka_bootstrap_servers, lost))
    return judge_topics(settings, topics)


def existing_topics(settings: Settings, names: Sequence[str]) -> dict[str, TopicStatus]:
    """These topics (names without prefix) as the broker has them, by full name; asking creates none.

    Raises:
        EbbtideError: the broker does not answer, or a topic is missing.
    """
    with admin_client(settings) as admin:
        found = {topic.name: topic for topic in _existing(admin, settings)}
    wanted = [settings.topic(name) for name in names]
    missing = [name for name in wanted if name not in found]
    if missing:
        raise EbbtideError(
            f"there is no topic {', '.join(missing)} at {settings.kafka_bootstrap_servers} "
            f"(settings {PREFIX}TOPIC_PREFIX, {PREFIX}KAFKA_BOOTSTRAP_SERVERS)"
        )
    return {name: found[name] for name in wanted}


def topic_ids(settings: Settings, names: Sequence[str]) -> dict[str, str]:
    """The ids of these topics, by name, both without prefix; without those of which the broker tells none.

    Raises:
        EbbtideError: the broker does not answer.
    """
    full = {settings.topic(name): name for name in names}
    with admin_client(settings) as admin:
        told = admin.describe_topics(list(full))
    return {full[topic["name"]]: found for topic in told if (found := _id_of(topic))}


def judge_topics(settings: Settings, topics: Sequence[TopicStatus]) -> TopicReport:
    """The report on topics as the broker described them; no broker is asked."""
    errors: list[str] = []
    warnings: list[str] = []
    there = {topic.definition.name for topic in topics}
    missing = [settings.topic(topic.name) for topic in TOPICS if topic.name not in there]
    if missing:
        errors.append(f"missing: {', '.join(missing)} (`ebbtide topics create` creates what is missing)")
    counts = {topic.partitions for topic in topics}
    if len(counts) > 1:
        listed = ", ".join(f"{topic.name} has {topic.partitions}" for topic in topics)
        errors.append(f"numbers of partitions must be equal: {listed}")
    _check_timestamps(settings, topics, errors, warnings)
    _check_cleanup(topics, errors, warnings)
    _check_sizes(topics, errors, warnings)
    partitions = counts.pop() if len(counts) == 1 and not missing else None
    return TopicReport(tuple(topics), partitions, tuple(errors), tuple(warnings))


def _check_timestamps(
    settings: Settings, topics: Sequence[TopicStatus], errors: list[str], warnings: list[str]
) -> None:
    inputs = [topic for topic in topics if topic.definition.direction == "in"]
    _warn_of_unreported(TIMESTAMP_TYPE, inputs, warnings)
    producers_own = [topic.name for topic in inputs if topic.settings.get(TIMESTAMP_TYPE) == "CreateTime"]
    if producers_own:
        found = (
            f"{TIMESTAMP_TYPE} of {', '.join(producers_own)} is CreateTime: "
            "the broker's retention deletes old events that are sent again at once"
        )
        if settings.allow_create_time:
            warnings.append(found)
        else:
            errors.append(f"{found}; set LogAppendTime, or EBBTIDE_ALLOW_CREATE_TIME=true")
    for topic in topics:
        if topic.definition.direction == "internal" and topic.settings.get(TIMESTAMP_TYPE) == "CreateTime":
            warnings.append(
                f"{TIMESTAMP_TYPE} of {topic.name} is CreateTime, not LogAppendTime: the broker does not tell the "
                "time, and a clock that was wrong before the worker started may go unnoticed"
            )


def _check_cleanup(topics: Sequence[TopicStatus], errors: list[str], warnings: list[str]) -> None:
    _warn_of_unreported(CLEANUP_POLICY, [topic for topic in topics if topic.definition.compact], warnings)
    for topic in topics:
        if CLEANUP_POLICY not in topic.settings:
            continue
        reported = topic.settings[CLEANUP_POLICY]
        policies = {policy.strip() for policy in reported.split(",")} - {""}
        if topic.definition.compact and policies != {"compact"}:
            errors.append(f"{CLEANUP_POLICY} of {topic.name} must be compact, not {reported}")
        elif not topic.definition.compact and "compact" in policies:
            found = f"{CLEANUP_POLICY} of {topic.name} must be delete, not {reported}: records would be lost"
            (errors if topic.definition.direction == "in" else warnings).append(found)


def _check_sizes(topics: Sequence[TopicStatus], errors: list[str], warnings: list[str]) -> None:
    concerned = [topic for topic in topics if topic.definition.name in (*INPUTS, DEAD_LETTERS)]
    _warn_of_unreported(MAX_MESSAGE_BYTES, concerned, warnings)
    largest_bytes = _largest_input_bytes(topics)
    for topic in concerned:
        room_bytes = topic.max_message_bytes
        if topic.definition.name != DEAD_LETTERS or largest_bytes is None or room_bytes is None:
            continue
        if room_bytes < largest_bytes + DEAD_LETTER_ROOM_BYTES:
            needed = (
                f"{largest_bytes + DEAD_LETTER_ROOM_BYTES} (the inputs' largest, {largest_bytes}, and 64 KiB)"
            )
            errors.append(f"{MAX_MESSAGE_BYTES} of {topic.name} must be at least {needed}, not {room_bytes}")


def _warn_of_unreported(setting: str, topics: Sequence[TopicStatus], warnings: list[str]) -> None:
    silent = [topic.name for topic in topics if setting not in topic.settings]
    if silent:
        warnings.append(f"the broker does not report {setting} of {', '.join(silent)}")


def _largest_input_bytes(topics: Sequence[TopicStatus]) -> int | None:
    sizes = [topic.max_message_bytes for topic in topics if topic.definition.direction == "in"]
    return max((size for size in sizes if size is not None), default=None)


def _partitions_to_create(existing: Sequence[TopicStatus], asked: int | None) -> int:
    counts = {topic.partitions for topic in existing}
    others = [f"{topic.name} has {topic.partitions}" for topic in existing if topic.partitions != asked]
    if asked is not None and others:
        raise UsageError(f"--partitions: must be what existing topics have, not {asked}: {', '.join(others)}")
    if len(counts) > 1:
        raise EbbtideError(f"numbers of partitions must be equal: {', '.join(others)}")
    return asked or (counts.pop() if counts else DEFAULT_PARTITIONS)


def _existing(admin: Any, settings: Settings) -> list[TopicStatus]:
    """Those of our topics that the broker has, in the order of `TOPICS`."""
    definitions = {settings.topic(topic.name): topic for topic in TOPICS}
    described = {}
    for topic in admin.describe_topics(list(definitions)):
        code = topic["error_code"]
        if code == TOPIC_REFUSED:
            raise EbbtideError(
                lacks_rights(settings, f"Describe on topic {topic['name']} (Read or Write brings it)")
            )
        if code not in (0, _UNKNOWN_TOPIC, _LEADER_NOT_AVAILABLE):
            raise EbbtideError(f"topic {topic['name']} cannot be described: {for_code(code).__name__}")
        if code != _UNKNOWN_TOPIC:
            described[topic["name"]] = topic
    if not described:
        return []
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in described]
    reported = admin.describe_configs(resources, config_filter="all").get("topic", {})
    return [
        TopicStatus(
            definition,
            name,
            len(described[name]["partitions"]),
            min((len(each["replica_nodes"]) for each in described[name]["partitions"]), default=0),
            {
                key: entry["value"]
                for key, entry in reported.get(name, {}).items()
                if entry.get("value") is not None
            },
        )
        for name, definition in definitions.items()
        if name in described
    ]


def _id_of(described: Mapping[str, Any]) -> str:
    """What tells a topic from any other that had, or will have, its name; empty where the broker does not tell."""
    told = str(described.get("topic_id") or "")
    return "" if told == _NO_ID else told
