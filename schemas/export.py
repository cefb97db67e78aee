"""The schema documents: a JSON Schema per record, and the AsyncAPI document that ties them to the topics."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import yaml
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from schemas import cloudevents, dead_letters
from schemas.changes import SegmentChange
from schemas.dead_letters import DeadLetterLine
from schemas.decode import MAX_VALUE_BYTES
from schemas.events import MAX_NAME_CHARACTERS, OF_AN_ERASURE
from schemas.input_models import Consent, Engagement, Purchase
from schemas.profiles import CustomerProfile
from schemas.rejection import MAX_MESSAGE_CHARACTERS, REASONS
from schemas.triggers import ReactivationTrigger

VERSION: Final = "1.0.0"
"""Of the schemas, not of the package; the first number is in every `$id` and `ce_type`."""
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
KAFKA_BINDING_VERSION: Final = "0.5.0"

MODELS: Final[dict[str, type[BaseModel]]] = {
    "purchase": Purchase,
    "engagement": Engagement,
    "consent": Consent,
    "segment-change": SegmentChange,
    "customer-profile": CustomerProfile,
    "reactivation-trigger": ReactivationTrigger,
    "dead-letter-line": DeadLetterLine,
}
"""The model of each JSON Schema file, by the file's name without `.json`."""

_INPUT_COMMENT: Final = (
    f"Beyond this schema, Ebbtide refuses values of more than {MAX_VALUE_BYTES} bytes or 1,024 levels, "
    "lone surrogates and numbers that no finite double can hold, days that no calendar has, leap seconds "
    "other than 23:59:60 UTC, UTC years outside 1970-9999, amounts above 10^9 units of the base currency, "
    "and records whose key is not the customer id."
)


def export(directory: Path) -> list[Path]:
    """Writes `json/*.json` and `asyncapi.yaml` under `directory`, always the same bytes; returns the paths.

    Folders are created, files of these names are replaced, other files are left.

    Raises:
        OSError: a file cannot be written.
    """
    paths = []
    for name, content in documents():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        paths.append(path)
    return paths


def documents() -> Iterator[tuple[str, bytes]]:
    """Each document's name (relative, with `/`) and content (UTF-8)."""
    for name in MODELS:
        text = json.dumps(json_schema(name), indent=2, ensure_ascii=False)
        yield f"json/{name}.json", f"{text}\n".encode()
    text = yaml.safe_dump(asyncapi(), sort_keys=False, allow_unicode=True, width=110)
    yield "asyncapi.yaml", text.encode()


class _WithoutTitles(GenerateJsonSchema):
    """A title that repeats the field's name says nothing."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def json_schema(name: str) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a record: wire names, and what `decode` takes or a topic carries.

    Outputs may gain keys, so no schema forbids unknown ones.

    Raises:
        KeyError: `name` is not in `MODELS`.
    """
    model = MODELS[name]
    body: dict[str, Any] = _open(model.model_json_schema(by_alias=True, schema_generator=_WithoutTitles))
    head: dict[str, Any] = {
        "$schema": DIALECT,
        "$id": f"urn:ebbtide:schema:{name}:{VERSION.partition('.')[0]}",
        "title": body.pop("title"),
        "description": body.pop("description"),
    }
    if model in (Purchase, Engagement, Consent):
        head["$comment"] = _INPUT_COMMENT
    conditions = _CONDITIONS.get(name, {})
    if model is Consent:
        conditions = _of_consents_alone(body["properties"], conditions)
    return head | {"type": body.pop("type")} | body | conditions


def _of_consents_alone(properties: dict[str, Any], conditions: dict[str, Any]) -> dict[str, Any]:
    """The conditions of consents, with what fields must be like that are not read of an erasure."""
    then = conditions["then"]
    moved: dict[str, Any] = {}
    for name in properties.keys() - set(OF_AN_ERASURE):
        described = properties[name]
        properties[name] = {key: described.pop(key) for key in ("default", "description") if key in described}
        moved[name] = described | then["properties"].get(name, {})
    return conditions | {"then": then | {"properties": dict(sorted(moved.items()))}}


_CONDITIONS: Final[dict[str, dict[str, Any]]] = {
    "engagement": {
        "if": {"properties": {"cost": {"type": "string"}}, "required": ["cost"]},
        "then": {"properties": {"currency": {"type": "string"}}, "required": ["currency"]},
    },
    "consent": {
        "if": {"properties": {"kind": {"const": "consent"}}},
        "then": {
            "properties": {"purpose": {"type": "string"}, "granted": {"type": "boolean"}},
            "required": ["purpose", "granted"],
        },
    },
}
"""What one field asks of another, by record."""


def _open(node: Any) -> Any:
    if isinstance(node, dict):
        return {
            key: _open(value)
            for key, value in node.items()
            if not (key == "additionalProperties" and value is False)
        }
    return [_open(value) for value in node] if isinstance(node, list) else node


@dataclass(frozen=True, slots=True)
class _Channel:
    topic: str
    schema: str | None
    direction: Literal["in", "out"]
    cleanup: Literal["delete", "compact"]
    summary: str

    @property
    def identifier(self) -> str:
        first, *rest = self.topic.split("-")
        return first + "".join(word.capitalize() for word in rest)

    @property
    def message(self) -> str:
        return self.identifier.removesuffix("s")


CHANNELS: Final = (
    _Channel("purchases", "purchase", "in", "delete", "Orders, their updates, refunds, cancellations."),
    _Channel(
        "engagements",
        "engagement",
        "in",
        "delete",
        "Opens, clicks, reads, visits, declared intent, touches that cost money.",
    ),
    _Channel("consents", "consent", "in", "delete", "Consent given or withdrawn per purpose; erasure."),
    _Channel(
        "segment-changes", "segment-change", "out", "delete", "One record per customer, dimension and change."
    ),
    _Channel(
        "customer-profiles",
        "customer-profile",
        "out",
        "compact",
        "The latest profile; a tombstone (null value) on erasure.",
    ),
    _Channel(
        "reactivation-triggers",
        "reactivation-trigger",
        "out",
        "delete",
        "Re-activation actions that are due.",
    ),
    _Channel(
        "dead-letters", None, "out", "delete", "The original bytes of refused records; the reason in headers."
    ),
)
"""The public topics, by their names without prefix."""


def asyncapi() -> dict[str, Any]:
    """The AsyncAPI 3.0 document, seen from Ebbtide: it receives from the inputs and sends to the outputs."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Ebbtide",
            "version": VERSION,
            "description": "Reads what customers buy, do and consent to; publishes where they stand, and "
            "each change of it with its reason. Topic names take an optional prefix, not shown here.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": cloudevents.CONTENT_TYPE,
        "channels": {channel.identifier: _channel(channel) for channel in CHANNELS},
        "operations": {_operation_id(channel): _operation(channel) for channel in CHANNELS},
        "components": {
            "messages": {channel.message: _message(channel) for channel in CHANNELS},
            "messageTraits": {"cloudEvent": _cloud_event()},
        },
    }


def _channel(channel: _Channel) -> dict[str, Any]:
    return {
        "address": channel.topic,
        "summary": channel.summary,
        "messages": {channel.message: {"$ref": f"#/components/messages/{channel.message}"}},
        "bindings": {
            "kafka": {
                "topic": channel.topic,
                "topicConfiguration": {"cleanup.policy": [channel.cleanup]},
                "bindingVersion": KAFKA_BINDING_VERSION,
            }
        },
    }


def _operation_id(channel: _Channel) -> str:
    verb = "receive" if channel.direction == "in" else "send"
    return verb + channel.identifier[0].upper() + channel.identifier[1:]


def _operation(channel: _Channel) -> dict[str, Any]:
    reference = f"#/channels/{channel.identifier}"
    return {
        "action": "receive" if channel.direction == "in" else "send",
        "channel": {"$ref": reference},
        "messages": [{"$ref": f"{reference}/messages/{channel.message}"}],
    }


def _message(channel: _Channel) -> dict[str, Any]:
    if channel.schema is None:
        return {
            "name": channel.message,
            "summary": channel.summary,
            "contentType": "application/octet-stream",
            "headers": _dead_letter_headers(),
            "payload": {"description": "The value of the refused record, unchanged."},
            "bindings": {
                "kafka": {
                    "key": {
                        "description": "The key of the refused record, unchanged; null where it had none."
                    },
                    "bindingVersion": KAFKA_BINDING_VERSION,
                }
            },
        }
    traits = {"traits": [{"$ref": "#/components/messageTraits/cloudEvent"}]}
    return {
        "name": channel.message,
        "summary": channel.summary,
        "contentType": cloudevents.CONTENT_TYPE,
        "payload": {
            "schemaFormat": "application/schema+json;version=2020-12",
            "schema": {"$ref": f"./json/{channel.schema}.json"},
        },
        "bindings": {"kafka": {"key": _record_key(), "bindingVersion": KAFKA_BINDING_VERSION}},
    } | (traits if channel.direction == "out" else {})


def _record_key() -> dict[str, Any]:
    return {
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_NAME_CHARACTERS,
        "description": "The customer id in UTF-8, equal to `customer_id` in the value.",
    }


def _cloud_event() -> dict[str, Any]:
    descriptions = {
        "ce_id": "The same for each repeat of a record; the value's `change_id` or `trigger_id`, if any.",
        "ce_source": "`/ebbtide/<namespace>/<topic>`.",
        "ce_time": "The value's `as_of`.",
        "ce_subject": "The customer id.",
    }
    constants = {"ce_specversion": cloudevents.SPEC_VERSION, "content-type": cloudevents.CONTENT_TYPE}
    properties: dict[str, Any] = {}
    for name in cloudevents.HEADER_NAMES:
        properties[name] = {"type": "string"}
        if name in descriptions:
            properties[name]["description"] = descriptions[name]
        elif name in constants:
            properties[name]["const"] = constants[name]
        else:
            properties[name]["enum"] = list(cloudevents.TYPES.values())
    return {
        "summary": "CloudEvents 1.0, binary mode; every value is UTF-8 text.",
        "headers": {"type": "object", "properties": properties, "required": list(properties)},
    }


def _dead_letter_headers() -> dict[str, Any]:
    number = {"type": "string", "pattern": "^[0-9]+$"}
    properties: dict[str, Any] = {
        dead_letters.EXCEPTION_HEADER: {"type": "string", "enum": list(REASONS)},
        dead_letters.MESSAGE_HEADER: {
            "type": "string",
            "maxLength": MAX_MESSAGE_CHARACTERS,
            "description": "One line: the field's path or `$`, a colon, and what is wrong.",
        },
        dead_letters.TOPIC_HEADER: {"type": "string", "description": "Where the record was read."},
        dead_letters.PARTITION_HEADER: dict(number),
        dead_letters.OFFSET_HEADER: dict(number),
    }
    return {
        "type": "object",
        "description": "Every value is UTF-8 text.",
        "properties": properties,
        "required": list(properties),
    }
