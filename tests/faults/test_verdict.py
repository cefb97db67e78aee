"""The verdict itself: whatever is taken from, added to or changed in a sound run is found, and in its own column."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest

from enrichment.model import load_model
from streams.replay.replay import replay
from tests.faults.case import recovered_s
from tests.faults.reader import Seen
from tests.faults.table import Row, as_markdown, as_text
from tests.faults.verdict import Verdict, judge
from tests.faults.workload import Expected, Size, Workload, as_json, crowd
from tests.integration.harness import Document

pytestmark = pytest.mark.xdist_group("verdict")

LETTER = ("purchases", 1, 7)


@pytest.fixture(scope="module")
def workload() -> Workload:
    return crowd(1, Size(2_000, 200, 150, 50))


@pytest.fixture(scope="module")
def sound(workload: Workload) -> tuple[Expected, Seen, dict[str, Document]]:
    """Expected, seen and stored, of a run in which nothing went wrong."""
    made = replay(((record.topic, record.value or b"") for record in workload.records), load_model(None))
    expected = workload.expected
    stored = {str(profile["customer_id"]): profile for profile in as_json(made.profiles)}
    seen = Seen(
        changes=sorted(
            expected.changes.values(), key=lambda change: (change["customer_id"], change["sequence"])
        ),
        triggers=list(expected.triggers.values()),
        dead_letters=[LETTER],
        profiles=copy.deepcopy(stored),
    )
    return replace_letters(expected), seen, stored


def replace_letters(expected: Expected) -> Expected:
    """With one dead letter to come."""
    return Expected(
        expected.changes,
        expected.triggers,
        frozenset({LETTER}),
        expected.aggregates,
        expected.end_us,
        expected.partition_ends_us,
    )


def test_a_sound_run_is_clean(sound: tuple[Expected, Seen, dict[str, Document]]) -> None:
    """With changes and triggers of all kinds in it."""
    expected, seen, stored = sound
    assert len(expected.changes) > 100
    assert expected.triggers
    verdict = judge(expected, seen, stored)
    assert verdict.is_clean, str(verdict)


def without_last_change(seen: Seen, stored: dict[str, Document]) -> None:
    """The last of a customer: no gap, only an id that is not there and a standing that nobody was told."""
    del seen.changes[-1]


def without_first_change(seen: Seen, stored: dict[str, Document]) -> None:
    del seen.changes[0]


def change_again(seen: Seen, stored: dict[str, Document]) -> None:
    seen.changes.append(seen.changes[5])


def changes_swapped(seen: Seen, stored: dict[str, Document]) -> None:
    seen.changes[0], seen.changes[1] = seen.changes[1], seen.changes[0]


def another_previous(seen: Seen, stored: dict[str, Document]) -> None:
    seen.changes[1] = {**seen.changes[1], "previous": "another"}


def a_change_of_its_own(seen: Seen, stored: dict[str, Document]) -> None:
    last = seen.changes[-1]
    seen.changes.append(
        {**last, "change_id": "new", "sequence": last["sequence"] + 1, "previous": last["current"]}
    )


def without_trigger(seen: Seen, stored: dict[str, Document]) -> None:
    del seen.triggers[0]


def trigger_again(seen: Seen, stored: dict[str, Document]) -> None:
    seen.triggers.append(seen.triggers[0])


def without_letter(seen: Seen, stored: dict[str, Document]) -> None:
    seen.dead_letters.clear()


def letter_again(seen: Seen, stored: dict[str, Document]) -> None:
    seen.dead_letters.append(LETTER)


def another_letter(seen: Seen, stored: dict[str, Document]) -> None:
    seen.dead_letters.append(("purchases", 1, 8))


def an_event_counted_twice(seen: Seen, stored: dict[str, Document]) -> None:
    aggregates = next(iter(stored.values()))["aggregates"]
    aggregates["order_count"] += 1


def without_customer(seen: Seen, stored: dict[str, Document]) -> None:
    del stored[next(iter(stored))]


def another_standing_stored(seen: Seen, stored: dict[str, Document]) -> None:
    standing = next(iter(stored.values()))["standing"]
    standing["segment"] = "another"


def another_profile(seen: Seen, stored: dict[str, Document]) -> None:
    next(iter(seen.profiles.values()))["standing"]["segment"] = "another"


def an_offset_again(seen: Seen, stored: dict[str, Document]) -> None:
    seen.out_of_order += 1


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (without_last_change, {"lost", "differing"}),
        (without_first_change, {"lost", "chain_breaks"}),
        (change_again, {"doubled"}),
        (changes_swapped, {"chain_breaks"}),
        (another_previous, {"chain_breaks", "differing"}),
        (a_change_of_its_own, {"differing"}),
        (without_trigger, {"lost"}),
        (trigger_again, {"doubled"}),
        (without_letter, {"lost"}),
        (letter_again, {"doubled"}),
        (another_letter, {"differing"}),
        (an_event_counted_twice, {"lost"}),
        (without_customer, {"lost"}),
        (another_standing_stored, {"differing"}),
        (another_profile, {"differing"}),
        (an_offset_again, {"differing"}),
    ],
)
def test_each_damage_is_found_in_its_own_column(
    sound: tuple[Expected, Seen, dict[str, Document]],
    damage: Callable[[Seen, dict[str, Document]], None],
    found: set[str],
) -> None:
    """And in no other."""
    expected, seen, stored = copy.deepcopy(sound)
    damage(seen, stored)
    assert columns(judge(expected, seen, stored)) == found


def columns(verdict: Verdict) -> set[str]:
    return {name for name in ("lost", "doubled", "chain_breaks", "differing") if getattr(verdict, name)}


def test_recovery_counts_from_the_fault_to_the_last_partitions_first_new_micro_batch() -> None:
    """Records made before the fault's end do not count, however late they were seen; oracle: by hand."""
    news = [[(9.0, 12.0), (10.5, 12.5)], [(11.0, 14.0), (12.0, 15.0)], [(3.0, 3.5)]]
    assert recovered_s(10.0, news) == 4.0
    assert recovered_s(20.0, news) is None


def test_the_table_has_a_line_for_each_case() -> None:
    """As text in columns, and as Markdown."""
    rows = [Row("a case", 3, 100_000, 0, 1, 0, 1.26), Row("b", 1, 100_000, 0, 0, 0, None)]
    assert as_text(rows)[1].split() == ["a", "case", "3", "100,000", "0", "1", "0", "1.3", "s"]
    assert len({len(line) for line in as_text(rows)}) == 1
    assert as_markdown(rows).splitlines()[2:] == [
        "| a case | 3 | 100,000 | 0 | 1 | 0 | 1.3 s |",
        "| b | 1 | 100,000 | 0 | 0 | 0 | – |",
    ]
