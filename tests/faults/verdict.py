"""The verdict of a case, from what a read_committed reader saw and what is stored at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from schemas.profiles import DIMENSIONS
from tests.faults.reader import Seen
from tests.faults.workload import Expected
from tests.integration.harness import Document, aggregates

SHOWN = 5


@dataclass
class Verdict:
    """What is wrong; an empty list is a zero."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    chain_breaks: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.lost or self.doubled or self.chain_breaks or self.differing)

    def __str__(self) -> str:
        parts = []
        for name in ("lost", "doubled", "chain_breaks", "differing"):
            found: list[str] = getattr(self, name)
            parts.append(f"{name}: {len(found)}" + "".join(f"\n    {one}" for one in found[:SHOWN]))
        return "\n".join(parts)


def judge(expected: Expected, seen: Seen, stored: Mapping[str, Document]) -> Verdict:
    """Hold what was published and what is stored (profiles as of the end) against what was expected."""
    verdict = Verdict()
    _judge_ids(verdict, "change_id", expected.changes, filter(expected.is_due, seen.changes))
    _judge_ids(verdict, "trigger_id", expected.triggers, filter(expected.is_due, seen.triggers))
    letters = Counter(seen.dead_letters)
    verdict.lost += [f"dead letter of {source}" for source in expected.dead_letters - letters.keys()]
    verdict.doubled += [f"dead letter of {source}" for source, count in letters.items() if count > 1]
    verdict.differing += [f"dead letter of {source}" for source in letters.keys() - expected.dead_letters]
    verdict.chain_breaks += chain_breaks(seen.changes)
    _judge_stored(verdict, expected, seen, stored)
    if seen.out_of_order:
        verdict.differing.append(f"the reader was given {seen.out_of_order} offsets again")
    return verdict


def chain_breaks(changes: Sequence[Document]) -> list[str]:
    """Each place where a sequence has a gap, or `previous` is not the last `current`, in the order of arrival.

    A second life of a customer begins again at 1, with nothing before it. Repeats are none: they count as doubled.
    """
    found: list[str] = []
    sequences: Counter[tuple[str, int]] = Counter()
    current: dict[tuple[str, int, str], Any] = {}
    for change in first_of_each(changes):
        life = change["customer_id"], change["life"]
        place = *life, change["dimension"]
        expected_sequence = sequences[life] + 1
        if change["sequence"] != expected_sequence:
            found.append(f"{life}: sequence {change['sequence']} after {expected_sequence - 1}")
        elif change["previous"] != current.get(place):
            found.append(f"{place}: previous {change['previous']!r} after {current.get(place)!r}")
        sequences[life] = change["sequence"]
        current[place] = change["current"]
    return found


def first_of_each(changes: Sequence[Document]) -> list[Document]:
    """Without repeats, as a consumer that knows the ids it has had."""
    firsts: dict[str, Document] = {}
    for change in changes:
        firsts.setdefault(change["change_id"], change)
    return list(firsts.values())


def _judge_ids(
    verdict: Verdict, name: str, expected: Mapping[str, Document], seen: Iterable[Document]
) -> None:
    times: Counter[str] = Counter()
    for document in seen:
        identifier = str(document[name])
        times[identifier] += 1
        if identifier not in expected:
            verdict.differing.append(f"{name} {identifier} is not replay's: {document}")
        elif expected[identifier] != document:
            verdict.differing.append(
                f"{name} {identifier} is not as replay has it: {document}, {expected[identifier]}"
            )
    verdict.lost += [f"{name} {identifier}" for identifier in expected.keys() - times.keys()]
    verdict.doubled += [f"{name} {identifier}" for identifier, count in times.items() if count > 1]


def _judge_stored(verdict: Verdict, expected: Expected, seen: Seen, stored: Mapping[str, Document]) -> None:
    """Aggregates are replay's; standings are the ones that the last changes and profiles tell."""
    held = aggregates(stored)
    for customer, wanted in expected.aggregates.items():
        if held.get(customer) != wanted:
            verdict.lost.append(f"aggregates of {customer}: {held.get(customer)}, not {wanted}")
    verdict.differing += [f"{customer} is stored" for customer in held.keys() - expected.aggregates.keys()]
    told: dict[str, Document] = {customer: dict.fromkeys(DIMENSIONS) for customer in stored}
    lives: dict[str, int] = {}
    for change in first_of_each(seen.changes):
        customer = change["customer_id"]
        if customer in told:
            if change["life"] != lives.setdefault(customer, change["life"]):
                lives[customer], told[customer] = change["life"], dict.fromkeys(DIMENSIONS)
            told[customer][change["dimension"]] = change["current"]
    for customer, document in stored.items():
        if document["standing"] != told[customer]:
            verdict.differing.append(
                f"standing of {customer}: stored {document['standing']}, published {told[customer]}"
            )
        published = seen.profiles.get(customer, {}).get("standing")
        if document["standing"] != published:
            verdict.differing.append(
                f"standing of {customer}: stored {document['standing']}, profile {published}"
            )
