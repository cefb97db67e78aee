"""The committed schema documents, and that they are up to date."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import schemas
from schemas import cloudevents, dead_letters
from schemas.export import MODELS, asyncapi, documents, export

COMMITTED = Path(schemas.__file__).parent
TOPICS = {
    "purchases": "receive",
    "engagements": "receive",
    "consents": "receive",
    "segment-changes": "send",
    "customer-profiles": "send",
    "reactivation-triggers": "send",
    "dead-letters": "send",
}


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def resolve(document: Any, pointer: str) -> Any:
    for part in pointer.removeprefix("#/").split("/"):
        document = document[part]
    return document


def stale(directory: Path) -> list[str]:
    """The names of the documents that are missing under `directory`, differ there, or should not be there."""
    expected = dict(documents())
    found = {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in [*directory.glob("json/*"), directory / "asyncapi.yaml"]
        if path.is_file()
    }
    return sorted(name for name in expected | found if expected.get(name) != found.get(name))


def test_the_committed_documents_are_up_to_date() -> None:
    """`ebbtide schemas export schemas` writes them again."""
    assert stale(COMMITTED) == []


def test_an_export_has_the_same_bytes_every_time(tmp_path: Path) -> None:
    """Both times every document is written, into folders that need not exist."""
    first, second = export(tmp_path / "a" / "b"), export(tmp_path / "c")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert [path.relative_to(tmp_path / "c").as_posix() for path in second] == [
        *(f"json/{name}.json" for name in MODELS),
        "asyncapi.yaml",
    ]


def test_a_missing_a_changed_and_an_extra_document_are_stale(tmp_path: Path) -> None:
    """All three are named."""
    export(tmp_path)
    assert stale(tmp_path) == []
    (tmp_path / "json" / "purchase.json").unlink()
    (tmp_path / "json" / "gone.json").write_text("{}")
    (tmp_path / "asyncapi.yaml").write_text("asyncapi: 3.0.0\n")
    assert stale(tmp_path) == ["asyncapi.yaml", "json/gone.json", "json/purchase.json"]


def test_every_document_is_utf_8_and_ends_with_a_newline() -> None:
    """JSON documents are JSON, and the AsyncAPI document is what `asyncapi` returns."""
    for name, content in documents():
        assert content.endswith(b"\n")
        assert not content.endswith(b"\n\n")
        text = content.decode()
        assert (json.loads(text) if name.endswith(".json") else yaml.safe_load(text)) is not None
    assert yaml.safe_load(dict(documents())["asyncapi.yaml"]) == asyncapi()


def test_the_asyncapi_document_has_the_seven_public_topics() -> None:
    """Inputs are received and outputs sent; only profiles are compacted."""
    document = asyncapi()
    assert document["asyncapi"] == "3.0.0"
    channels = document["channels"]
    assert [channel["address"] for channel in channels.values()] == list(TOPICS)
    actions = {
        resolve(document, operation["channel"]["$ref"])["address"]: operation["action"]
        for operation in document["operations"].values()
    }
    assert actions == TOPICS
    compacted = [
        channel["address"]
        for channel in channels.values()
        if channel["bindings"]["kafka"]["topicConfiguration"]["cleanup.policy"] == ["compact"]
    ]
    assert compacted == ["customer-profiles"]


def test_every_reference_leads_somewhere() -> None:
    """Into the AsyncAPI document, or to an exported file beside it."""
    document = asyncapi()
    names = {name for name, _ in documents()}
    for reference in references(document):
        if reference.startswith("#/"):
            assert resolve(document, reference)
        else:
            assert reference.removeprefix("./") in names
    for operation in document["operations"].values():
        channel = resolve(document, operation["channel"]["$ref"])
        assert [resolve(document, message["$ref"]) for message in operation["messages"]] == list(
            channel["messages"].values()
        )


@pytest.mark.parametrize("name", MODELS)
def test_every_reference_within_a_json_schema_leads_somewhere(name: str) -> None:
    """Definitions are in the same file."""
    schema = json.loads(dict(documents())[f"json/{name}.json"])
    for reference in references(schema):
        assert resolve(schema, reference)


def test_every_message_has_a_kafka_key_and_its_headers() -> None:
    """Outputs have those of CloudEvents, dead letters those of KIP-1034, inputs none."""
    document = asyncapi()
    trait = document["components"]["messageTraits"]["cloudEvent"]
    assert trait["headers"]["required"] == list(cloudevents.HEADER_NAMES)
    for name, message in document["components"]["messages"].items():
        assert "key" in message["bindings"]["kafka"]
        address = next(c["address"] for c in document["channels"].values() if name in c["messages"])
        if address == "dead-letters":
            assert message["headers"]["required"] == list(dead_letters.HEADER_NAMES)
        else:
            assert ("traits" in message) == (TOPICS[address] == "send")
