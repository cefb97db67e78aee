"""A mapping applied to documents: each event becomes records, a dead letter, or is counted as ignored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from schemas.decode import decode
from schemas.events import MAX_NAME_CHARACTERS
from schemas.rejection import MALFORMED, Reason, Rejection, rejection
from schemas.topics import InputTopic
from streams.adapters.expressions import Expression, FieldError, Found, plain
from streams.adapters.functions import ValueUnfitError, digest, text
from streams.adapters.mapping import Mapping as EventMapping
from streams.adapters.mapping import Rule
from streams.adapters.paths import Scope

NEEDED: Final[Mapping[InputTopic, tuple[str, ...]]] = {
    "purchases": ("customer_id", "occurred_at", "kind", "order_id", "currency", "total"),
    "engagements": ("customer_id", "occurred_at", "kind"),
    "consents": ("customer_id", "occurred_at", "kind", "purpose", "granted"),
}
"""What a record must have; an `event_id` is made where the source has none."""
_IDS: Final = ("event_id", "customer_id", "order_id", "campaign_id")
_OF_A_CONSENT: Final = ("purpose", "granted")
_UNNAMED: Final = "(no name)"


@dataclass(frozen=True, slots=True)
class Made:
    """A record, its bytes as they go on the wire, and by field the path at which its value was."""

    topic: InputTopic
    value: bytes
    record: dict[str, Any]
    paths: dict[str, str]


@dataclass(frozen=True, slots=True)
class Unmapped:
    """Why an event makes no record, or not all of its records: a dead letter.

    `path` is where in the event; `message` begins with the mapping and this path.
    """

    mapping: str
    path: str
    reason: Reason
    message: str
    topic: InputTopic | None


@dataclass(slots=True)
class Outcome:
    """What became of one event. `ignored` is what it is counted by where it makes nothing."""

    event_name: str
    made: list[Made] = field(default_factory=list)
    unmapped: list[Unmapped] = field(default_factory=list)
    ignored: str | None = None

    def refuse(self, why: Unmapped) -> None:
        """Once for each reason: an event may be to make many records that all lack the same."""
        if why not in self.unmapped:
            self.unmapped.append(why)


class Converter:
    """Applies one mapping; `currency` stands for that of amounts whose event names none, instead of the mapping's."""

    def __init__(self, mapping: EventMapping, currency: str | None = None) -> None:
        self.mapping = mapping
        self.currency = currency

    def convert(self, document: Any) -> Iterator[Outcome]:
        """What becomes of each event of a document: JSON with numbers as `int` and `Decimal`."""
        for whole in document if isinstance(document, list) else [document]:
            yield from self._events(whole)
        if document == []:
            yield self._refused(".", "an empty list holds no event")

    def unreadable(self, why: Rejection) -> Outcome:
        """What becomes of bytes that are no document."""
        return Outcome("", unmapped=[self._unmapped("$", why.message.removeprefix("$: "), why.reason)])

    def _events(self, document: Any) -> Iterator[Outcome]:
        if not isinstance(document, dict):
            yield self._refused(".", "not a JSON object")
            return
        whole = Scope(document, document)
        for path, when in self.mapping.unwrap:
            inner = path.find(whole)
            if inner is None or (when is not None and not when(whole)):
                continue
            if inner == []:
                yield self._refused(path.text, "an empty list holds no event")
            for event in inner if isinstance(inner, list) else [inner]:
                if isinstance(event, dict):
                    yield self._event(Scope(event, document))
                else:
                    yield self._refused(path.text, "an event is a JSON object")
            return
        yield self._refused(", ".join(path.text for path, _ in self.mapping.unwrap), "missing")

    def _event(self, scope: Scope) -> Outcome:
        try:
            named = self.mapping.event_name.evaluate(scope)
        except FieldError as error:
            return self._refused(error.path, error.message)
        name = "" if named is None or isinstance(named.value, (dict, list)) else str(named.value)
        outcome = Outcome(name)
        is_own = False
        for rule in self.mapping.rules:
            if (is_own and not rule.own) or not _fits(rule, name, scope):
                continue
            is_own |= rule.own
            if rule.ignore is not None:
                outcome.ignored = rule.ignore
                return outcome
            if rule.refuse is not None:
                path, _, message = rule.refuse.partition(":")
                outcome.refuse(self._unmapped(path, message.strip()))
                return outcome
            for inner in _scopes(rule, scope):
                self._record(rule, inner, outcome)
        if not outcome.made and not outcome.unmapped:
            if named is None:
                outcome.refuse(self._unmapped(self.mapping.event_name.missing(), "missing"))
            else:
                outcome.ignored = name or _UNNAMED
        return outcome

    def _record(self, rule: Rule, scope: Scope, outcome: Outcome) -> None:
        """Add the record that a rule makes, or why it makes none."""
        assert rule.topic is not None
        record: dict[str, Any] = {}
        paths: dict[str, str] = {}
        try:
            for of, expression in rule.fields.items():
                found = self._field(of, expression, scope)
                if found is not None:
                    record[of], paths[of] = found
        except FieldError as error:
            outcome.refuse(self._unmapped(error.path, error.message, topic=rule.topic))
            return
        if "event_id" not in record:
            record = {"event_id": digest(scope.event), **record}
            paths["event_id"] = "hash of the event"
        elif len(record["event_id"]) > MAX_NAME_CHARACTERS:
            record["event_id"] = digest(record["event_id"])
        if rule.topic == "consents" and "kind" not in record:
            record["kind"], paths["kind"] = "consent", "the mapping"
        for of in NEEDED[rule.topic]:
            if of not in record and not (of in _OF_A_CONSENT and record["kind"] == "erasure"):
                path = rule.fields[of].missing() if of in rule.fields else "$"
                outcome.refuse(self._unmapped(path, f"missing, and {of} needs it", topic=rule.topic))
                return
        value = orjson.dumps(record)
        event = decode(rule.topic, value)
        if isinstance(event, Rejection):
            of, _, message = event.message.partition(": ")
            path = paths.get(of.partition(".")[0].partition("[")[0], of)
            outcome.refuse(self._unmapped(path, f"{of}: {message}", event.reason, rule.topic))
            return
        outcome.made.append(Made(rule.topic, value, record, paths))

    def _field(self, of: str, expression: Expression, scope: Scope) -> Found | None:
        found = expression.evaluate(scope)
        if of == "currency" and self.currency is not None and (found is None or found.path == "default"):
            return Found(self.currency, "--currency")
        if found is not None and of in _IDS:
            try:
                return Found(text(found.value), found.path)
            except ValueUnfitError as error:
                raise FieldError(found.path, str(error)) from None
        return found

    def _refused(self, path: str, message: str) -> Outcome:
        return Outcome("", unmapped=[self._unmapped(path, message)])

    def _unmapped(
        self, path: str, message: str, reason: Reason = MALFORMED, topic: InputTopic | None = None
    ) -> Unmapped:
        said = rejection(reason, (self.mapping.name,), f"{path}: {message}").message
        return Unmapped(self.mapping.name, path, reason, said, topic)


def _fits(rule: Rule, name: str, scope: Scope) -> bool:
    if rule.names and plain(name) not in rule.names:
        return False
    return rule.when is None or rule.when(scope)


def _scopes(rule: Rule, scope: Scope) -> Iterator[Scope]:
    """One for each record that a rule makes of an event."""
    if rule.each is None:
        yield scope
        return
    for value in rule.each.find_all(scope):
        if isinstance(value, dict) and not rule.each.is_many:
            for key, one in value.items():
                yield scope._replace(entry={"key": key, "value": one})
        else:
            for one in value if isinstance(value, list) else [value]:
                yield scope._replace(entry=one if isinstance(one, dict) else {"key": one, "value": one})
