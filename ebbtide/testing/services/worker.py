"""A worker on these servers: settings that share nothing with another test, its environment, and what it says."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from ebbtide.testing.services.ports import lasting_port
from schemas.topics import InputTopic
from streams.settings import Settings, load_settings

Document = dict[str, Any]
SESSION_TIMEOUT_S = 6.0


class Record(NamedTuple):
    """One input record; `topic` is without prefix."""

    topic: InputTopic
    key: bytes | None
    value: bytes | None
    partition: int = 0


def record_of(topic: InputTopic, document: Mapping[str, Any], partitions: int = 1) -> Record:
    """A well-formed record with its customer as key, in the partition that the key's CRC-32 names."""
    key = str(document["customer_id"]).encode()
    return Record(topic, key, orjson.dumps(document), partition_of(key, partitions))


def partition_of(key: bytes, partitions: int) -> int:
    """Any function of the key will do, as long as all three inputs use the same."""
    return zlib.crc32(key) % partitions


def make_settings(bootstrap_servers: str, redis_url: str, prefix: str, **overrides: Any) -> Settings:
    """Settings that share nothing with another test: prefix, group and web port are its own."""
    chosen = {
        "kafka_bootstrap_servers": bootstrap_servers,
        "redis_url": redis_url,
        "topic_prefix": prefix,
        "group_id": f"{prefix}group",
        "session_timeout_s": SESSION_TIMEOUT_S,
        "web_port": lasting_port(adjacent=2),  # for the tests that run two workers with one command
        "erasure_key": "an erasure key for tests",
    }
    return load_settings(**{**chosen, **overrides})


def process_environment(settings: Settings) -> dict[str, str]:
    """This process's environment with these settings and no others, for a worker in a process of its own."""
    ours = {name: value for name, value in os.environ.items() if not name.upper().startswith("EBBTIDE_")}
    return {**ours, **settings.as_environment()}


def readiness_of(settings: Settings) -> tuple[int, Document] | None:
    """The status and answer of the `/readyz` at these settings' port; None while there is none."""
    url = f"http://{settings.web_bind}:{settings.web_port}/readyz"
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())
    except OSError:
        return None
