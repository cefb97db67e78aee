"""What a change, or a consent, means to an output: from which audience a customer goes into which.

An output remembers what it has told of each customer. So nothing is told twice, an exit is told of those only who were
told before, and somebody without consent is never mentioned.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, cast

import msgspec

from enrichment.customer.consent import BEFORE_ALL_US, ConsentRecord
from enrichment.customer.customer import Customer
from enrichment.customer.decision import Ranks
from enrichment.deciding.changes import LOAD
from enrichment.identity import identifier
from schemas.changes import LEVELS
from schemas.documents import ChangeDocument, TriggerDocument
from schemas.events import Consent
from schemas.profiles import DIMENSIONS
from streams.delivery.outputs_file import Output


class Told(msgspec.Struct, array_like=True):
    """What an output has told of a customer: their standing by dimension, up to which change of which life.

    `consent` is the newest consent to the output's purpose that it has read, and `erased_us` the time of the newest
    erasure: the worker may not know of them yet.
    """

    standing: dict[str, str] = {}
    life: int = 0
    sequence: int = 0
    consent: ConsentRecord | None = None
    erased_us: int | None = None

    @property
    def is_nothing(self) -> bool:
        """Whether there is nothing to remember."""
        return self == Told()

    def with_(self, **more: Any) -> Told:
        """The same with some fields changed, and standings of its own."""
        return msgspec.structs.replace(self, **{"standing": dict(self.standing), **more})


class Step(NamedTuple):
    """A customer goes from one audience of a dimension into another; None stands for no audience.

    `step_id` is the same however often the step is told. A silent one must start no flow. `details` are what of the
    change may leave; `at` is an RFC 3339 time.
    """

    step_id: str
    customer_id: str
    at: str
    dimension: str
    previous: str | None
    current: str | None
    trigger: str
    is_silent: bool
    details: Mapping[str, Any]


class Reactivation(NamedTuple):
    """A re-activation that is due: a permitted channel at least, best first, and what is at stake."""

    trigger_id: str
    customer_id: str
    at: str
    details: Mapping[str, Any]


REACTIVATION_FIELDS: Final = (
    *("change_id", "due_at", "segment", "tier", "lifecycle", "channels", "preferred_categories"),
    "value_at_stake",
)
"""Of a trigger: what of it leaves."""


def reactivation_of(
    output: Output, trigger: TriggerDocument, customer: Customer | None, told: Told, day: int
) -> Reactivation | None:
    """A re-activation to be told; None for one of the control group, who hear nothing, and without consent."""
    if trigger["group"] != "treatment" or not allows(output, customer, told, day):
        return None
    document: Mapping[str, Any] = cast("Mapping[str, Any]", trigger)
    details = {name: document[name] for name in REACTIVATION_FIELDS if name in document}
    return Reactivation(trigger["trigger_id"], trigger["customer_id"], trigger["as_of"], details)


def allows(output: Output, customer: Customer | None, told: Told, day: int) -> bool:
    """Whether an output may tell anything of a customer on a day; None is one of whom nothing is known.

    The newest consent counts, whether the worker or the output has read it.
    """
    if customer is None:
        return False
    erased_up_to_us = customer.decision.erased_up_to_us or BEFORE_ALL_US
    if told.erased_us is not None and erased_up_to_us < told.erased_us:
        return False  # the worker does not know of it yet
    if output.purpose is None:
        return True
    records = [
        record for record in (customer.state.consent.latest.get(output.purpose), told.consent) if record
    ]
    records = [record for record in records if record.occurred_at_us > erased_up_to_us]
    if not records:
        return output.consent == "opt_out"
    latest = max(records, key=lambda record: record.key)
    return latest.granted and latest.last_day >= day


def step_of_change(
    output: Output,
    change: ChangeDocument,
    customer: Customer | None,
    told: Told,
    day: int,
    *,
    is_old: bool = False,
) -> tuple[Step | None, Told]:
    """The step of a change, and what is told once it has been taken; None where there is nothing to tell.

    An old change, from before the output was there, is told as one of a first load is.
    """
    life, sequence = change["life"], change["sequence"]
    if (life, sequence) <= (told.life, told.sequence):
        return None, told
    dimension, trigger = change["dimension"], change["reason"]["trigger"]
    after = told.with_(life=life, sequence=sequence)
    if dimension not in output.dimensions:
        return None, after
    is_allowed = allows(output, customer, told, day)
    previous = told.standing.get(dimension)
    current = change["current"] if is_allowed else None
    is_silent = is_old or trigger == LOAD
    if current is not None and is_silent and output.on_load == "skip":
        return None, after
    if current == previous:
        return None, after
    _enter(after, dimension, current)
    details = _details(output, change) if current is not None else {}
    return Step(
        change["change_id"],
        change["customer_id"],
        change["as_of"],
        dimension,
        previous,
        current,
        trigger,
        is_silent,
        details,
    ), after


def steps_of_consent(
    output: Output, consent: Consent, at: str, customer: Customer | None, told: Told, day: int
) -> tuple[list[Step], Told]:
    """The steps of a consent to an output's purpose, and what is told once they have been taken.

    A withdrawal, and an erasure, lead out of every audience at once. A consent that is newer than all that is known
    leads into those in which the customer stands, silently.
    """
    if consent.kind == "erasure":
        return _steps_of_erasure(output, consent, at, customer, told)
    if consent.purpose != output.purpose:
        return [], told
    assert consent.granted is not None
    record = ConsentRecord(consent.occurred_at_us, consent.granted, consent.event_id, consent.expires_at_us)
    known = [told.consent]
    erased_us = told.erased_us or BEFORE_ALL_US
    if customer is not None:
        known.append(customer.state.consent.latest.get(output.purpose or ""))
        erased_us = max(erased_us, customer.decision.erased_up_to_us or BEFORE_ALL_US)
    if record.occurred_at_us <= erased_us or any(one is not None and one.key > record.key for one in known):
        return [], told
    after = told.with_(consent=record)
    wanted: Mapping[str, str] = {}
    if customer is not None and allows(output, customer, after, day):
        decision = customer.decision
        if decision.standing is not None:
            wanted = standings_of(decision.standing)
        # Changes that led to where the customer stands now have nothing more to tell.
        after.life, after.sequence = max((decision.life, decision.sequence), (after.life, after.sequence))
    return _moved(output, consent, at, "consent", told, after, wanted), after


def _steps_of_erasure(
    output: Output, consent: Consent, at: str, customer: Customer | None, told: Told
) -> tuple[list[Step], Told]:
    erased_us = consent.occurred_at_us
    is_known = customer is not None and (customer.decision.erased_up_to_us or BEFORE_ALL_US) >= erased_us
    if customer is not None and is_known and told.life >= customer.decision.life:
        return [], told  # what was told is of the life after it
    if told.erased_us is not None and told.erased_us >= erased_us:
        return [], told
    kept = told.consent if told.consent is not None and told.consent.occurred_at_us > erased_us else None
    after = told.with_(consent=kept, erased_us=erased_us)
    return _moved(output, consent, at, "erasure", told, after, {}), after


def _moved(
    output: Output,
    consent: Consent,
    at: str,
    trigger: str,
    told: Told,
    after: Told,
    wanted: Mapping[str, str],
) -> list[Step]:
    """The silent steps to the standings that are wanted, which `after` then has."""
    steps = []
    for dimension in output.dimensions:
        previous, current = told.standing.get(dimension), wanted.get(dimension)
        if previous == current:
            continue
        _enter(after, dimension, current)
        parts = consent.customer_id, consent.event_id, trigger, dimension, after.life, after.sequence
        step_id = identifier("delivery", output.name, *parts)
        steps.append(Step(step_id, consent.customer_id, at, dimension, previous, current, trigger, True, {}))
    return steps


def standings_of(ranks: Ranks) -> dict[str, str]:
    """The standing by dimension."""
    return {dimension: LEVELS[dimension][rank] for dimension, rank in zip(DIMENSIONS, ranks, strict=True)}


def _enter(told: Told, dimension: str, current: str | None) -> None:
    if current is None:
        told.standing.pop(dimension, None)
    else:
        told.standing[dimension] = current


def _details(output: Output, change: ChangeDocument) -> dict[str, Any]:
    """What of a change may leave, with its places kept."""
    details: dict[str, Any] = {}
    for path in output.fields:
        *parents, last = path.split(".")
        found: Any = change
        into = details
        for parent in parents:
            found = found.get(parent) if isinstance(found, dict) else None
            into = into.setdefault(parent, {})
        if isinstance(found, dict) and last in found:
            into[last] = found[last]
    return details


def flattened(details: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Details by path, such as `traits_recency_days`."""
    for name, value in details.items():
        path = f"{prefix}_{name}" if prefix else name
        if isinstance(value, dict):
            yield from flattened(value, path)
        else:
            yield path, value
