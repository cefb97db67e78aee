"""The compiled core against the Python core: the same bytes, for every log and every model that it takes."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from enrichment.customer.validation import Horizons
from enrichment.days import format_day
from enrichment.kernel import Exactly, Wanted, core_of, given_model
from enrichment.model import Model, load_model, parse_model
from schemas.timestamps import parse_timestamp
from schemas.topics import INPUT_TOPICS, InputTopic
from streams.replay.documents import replayed_documents
from streams.replay.fared import Fared
from streams.replay.files import run_replay
from streams.replay.log import Line, ordered_log
from tests.enrichment.test_empirical_hazard import PARAMETERS as FADING
from tests.enrichment.test_recalibrated import SOME, document
from tests.integration.corpus import EXAMPLES
from tests.oracles.seeded_log import MODEL_OVERRIDES, make_log

Lines = dict[InputTopic, list[bytes]]
Document = dict[str, Any]

NAMES = ("segment-changes", "customer-profiles", "reactivation-triggers", "dead-letters", "summary")


@pytest.fixture(autouse=True)
def _built(caplog: pytest.LogCaptureFixture) -> None:
    """Skips where the compiled core is not built; reads what replays log."""
    found = core_of("auto")
    if found.compiled is None:
        pytest.skip(found.reason)  # in CI too: it may have no compiler, and the Python core is whole without
    caplog.set_level(logging.WARNING, "streams.replay.files")


def written(
    core: Wanted, lines: Lines, folder: Path, model: Model, until_us: int | None, horizons: Horizons | None
) -> tuple[dict[str, bytes], list[Fared]]:
    """The files that a core writes, without the one number that depends on the machine."""
    paths: dict[InputTopic, list[Path]] = {}
    for topic in INPUT_TOPICS:
        paths[topic] = [folder / f"{topic}.jsonl"]
        paths[topic][0].write_bytes(b"".join(line + b"\n" for line in lines.get(topic, ())))
    out, fared = folder / core, list[Fared]()
    of_topics = paths["purchases"], paths["engagements"], paths["consents"]
    run_replay(*of_topics, out, model, until_us, horizons, processes=1, fared=fared, core=core)
    files = {path.stem: path.read_bytes() for path in out.iterdir()}
    summary = json.loads(files["summary"])
    del summary["events_per_second"]
    return {**files, "summary": json.dumps(summary).encode()}, sorted(fared)


def check_alike(
    lines: Lines, folder: Path, model: Model, until: str | None = None, horizons: Horizons | None = None
) -> dict[str, bytes]:
    """Both cores write the same; gives what they write."""
    folder.mkdir(parents=True, exist_ok=True)
    until_us = None if until is None else parse_timestamp(until)
    by_python, fared_by_python = written("python", lines, folder, model, until_us, horizons)
    by_compiled, fared_by_compiled = written("compiled", lines, folder, model, until_us, horizons)
    assert sorted(by_python) == sorted(NAMES)
    for name in NAMES:
        pairs = zip(by_compiled[name].splitlines(), by_python[name].splitlines(), strict=False)
        for number, (found, expected) in enumerate(pairs):
            assert found == expected, f"{name}, line {number}"
        assert by_compiled[name] == by_python[name], name
    assert fared_by_compiled == fared_by_python
    return by_python


def model_with(**overrides: Any) -> Model:
    """The built-in model with other parts; a mapping is laid over the one that is there."""
    document = json.loads(load_model().model_dump_json(exclude_unset=True))
    for key, value in overrides.items():
        known = document.get(key)
        document[key] = {**known, **value} if isinstance(known, dict) and isinstance(value, dict) else value
    return parse_model(json.dumps(document), "a test")


def of_seed(seed: int, **options: Any) -> Lines:
    """A seeded log as lines."""
    log = make_log(seed, **options)
    return {
        topic: [json.dumps(record, ensure_ascii=False).encode() for record in log[topic]]
        for topic in INPUT_TOPICS
    }


OTHER_RULES: Sequence[Document] = (
    {},
    {"profiling": "opt_in"},
    {
        "lifecycle": {"window_days": 60, "at_risk_silence_risk": 0.6, "lapsed_silence_risk": 0.8},
        "hysteresis": {"silence_risk_margin": 0.05, "segment": {"score_margin": 1, "dwell_days": 3}},
    },
    {
        "tiers": {
            "by": "expected_margin",
            "breakpoints": [[-50, 0], [0, 20], [100, 60], [1000, 100]],
            "by_expected_margin": {"strategic": 80, "named": 50, "field": 25},
        },
        "other_purposes": ["email", "research"],
    },
    {"base_currency": "JPY", "rates": {"USD": "148.6975", "EUR": "161.1"}, "cost_per_refund": "600"},
    {
        "lifetime_value": {
            "time_unit": "month",
            "discount_rate_per_year": 0.1,
            "purchases": {"family": "pareto_nbd", "r": 2.5, "alpha": 3.0, "s": 1.0, "beta": 1.5},
        },
        "reactivation": {"triggers": ["time", "event", "consent"], "control_share": 0.5},
    },
)


@pytest.mark.parametrize("rules", range(len(OTHER_RULES)))
@pytest.mark.parametrize("seed", range(2))
def test_both_cores_write_the_same_files_of_a_seeded_log(
    seed: int, rules: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Every difficulty that the contract names, by models with every kind of rule that the compiled core takes."""
    model = model_with(**{**MODEL_OVERRIDES, **OTHER_RULES[rules]})
    files = check_alike(of_seed(10 * rules + seed), tmp_path, model)
    assert files["segment-changes"]
    assert caplog.text == ""


WINDOW: Document = {"window_days": 60, "at_risk_silence_risk": 0.6, "lapsed_silence_risk": 0.8}
FAMILIES: dict[str, Document] = {
    "pareto_nbd": {"family": "pareto_nbd", "r": 0.55, "alpha": 10.6, "s": 0.61, "beta": 11.7},
    "pareto_nbd, s = 1": {"family": "pareto_nbd", "r": 2.5, "alpha": 3.0, "s": 1.0, "beta": 1.5},
    "bg_nbd": {"family": "bg_nbd", "r": 0.243, "alpha": 4.414, "a": 0.793, "b": 2.426},
    "bg_nbd, no tails": {"family": "bg_nbd", "r": 3.0, "alpha": 8.0, "a": 2.5, "b": 30.0},
    "bg_nbd, both tails": {"family": "bg_nbd", "r": 0.5, "alpha": 8.0, "a": 0.2, "b": 0.4},
    "mbg_cnbd_k, k = 1": {"family": "mbg_cnbd_k", "k": 1, "r": 0.5, "alpha": 6.0, "a": 0.9, "b": 2.5},
    "mbg_cnbd_k, k = 4": {"family": "mbg_cnbd_k", "k": 4, "r": 3.5, "alpha": 4.0, "a": 0.6, "b": 8.0},
    "mbg_cnbd_k, k = 100": {"family": "mbg_cnbd_k", "k": 100, "r": 90.0, "alpha": 4.0, "a": 0.5, "b": 20.0},
    "empirical": FADING,
    "recalibrated": document(SOME),
}


def with_family(name: str, **others: Any) -> Model:
    """A model of this family, in weeks, that has a window and waits for who comes back alone."""
    family = {"time_unit": "week", "purchases": FAMILIES[name]}
    own_return = {"own_return": {"within_days": 14, "above": 0.2}}
    rules = {"reactivation": own_return, "lifecycle": WINDOW, "hysteresis": {"silence_risk_margin": 0.05}}
    return model_with(**{**MODEL_OVERRIDES, "lifetime_value": family, **rules, **others})


@pytest.mark.parametrize("name", FAMILIES)
def test_both_cores_write_the_same_files_by_every_family(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With a window and without, waiting for who comes back alone and not."""
    files = check_alike(of_seed(31), tmp_path / "window", with_family(name))
    assert files["segment-changes"]
    assert files["reactivation-triggers"]
    plain = with_family(name, lifecycle={}, reactivation={}, hysteresis={})
    check_alike(of_seed(32), tmp_path / "none", plain)
    assert caplog.text == ""


@pytest.mark.parametrize("name", FAMILIES)
def test_each_prediction_is_that_of_the_python_core(name: str) -> None:
    """To the last bit, or left to Python: one-time, regular and heavy buyers, new ones and those of ten years."""
    model, rng = with_family(name), random.Random(name)
    histories = []
    for _ in range(3_000):
        repeats = rng.choice((0, 0, 1, 2, 3, rng.randint(4, 30), rng.randint(31, 400)))
        to_last = rng.randint(repeats, repeats + rng.choice((1, 30, 400, 3_000))) if repeats else 0
        counts = sorted(rng.randint(0, min(repeats, days)) for days in (30, 90, 180))
        histories.append(
            (repeats, to_last, to_last + rng.choice((0, 1, rng.randint(2, 60), 365, 2_000)), counts)
        )
    module: Any = core_of("compiled").compiled
    found = module.predictions(given_model(model, "replay", Horizons()), histories)
    exactly = Exactly(model)
    for history, prediction in zip(histories, found, strict=True):
        if prediction is not None:
            expected = exactly.purchasing(*history), exactly.chance_of_return(*history)
            assert prediction == expected, history
    assert sum(prediction is None for prediction in found) < 60, "the Python core is asked too often"


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(100, 150))
def test_both_cores_write_the_same_files_of_fifty_seeded_logs(
    seed: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Logs of many lengths and sizes."""
    rng = random.Random(seed)
    lines = of_seed(
        seed, customers=rng.randint(1, 80), days=rng.randint(5, 1_500), events=rng.randint(50, 4_000)
    )
    check_alike(lines, tmp_path, model_with(**MODEL_OVERRIDES))
    assert caplog.text == ""


def test_an_end_of_ones_own_and_short_horizons(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Records after the end are ignored; ids are forgotten after a few days, so that repeats count again."""
    for until in ("2023-09-01T12:00:00Z", "2027-01-01T00:00:00Z"):
        check_alike(of_seed(7), tmp_path / until[:4], model_with(**MODEL_OVERRIDES), until, Horizons(10, 2))
    assert caplog.text == ""


def test_the_hostile_records_become_the_same_dead_letters(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """All examples of bad input, between good records: what the compiled core does not read, Python reads."""
    lines: Lines = {topic: [] for topic in INPUT_TOPICS}
    for example in EXAMPLES:
        for record in example.records():
            if record.value is not None and b"\n" not in record.value:
                lines[record.topic].append(record.value)
    files = check_alike(lines, tmp_path, load_model(), "2025-02-01T00:00:00Z")
    assert files["dead-letters"]
    assert caplog.text == ""


def test_a_model_that_it_does_not_know_is_replayed_by_python(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The files are the same, and one line says why."""
    model = model_with(**{**MODEL_OVERRIDES, "rates": {"EUR": "1.000000000000000000000001"}})
    check_alike(of_seed(1, events=300), tmp_path, model)
    assert (
        "the Python core replays: the compiled core takes rates and costs of at most 62 bits" in caplog.text
    )


def test_a_customer_near_a_limit_is_replayed_by_python(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Amounts that add up beyond 2^61 micro-units become dead letters, which only Python writes."""
    order = {"kind": "order", "currency": "USD", "total": "1000000000", "occurred_at": "2025-01-09T12:00:00Z"}
    lines = [
        json.dumps({"event_id": f"e{at}", "customer_id": "c", "order_id": f"o{at}", **order}).encode()
        for at in range(2_310)
    ]
    files = check_alike({"purchases": lines}, tmp_path, load_model())
    assert b"OutOfRange" in files["dead-letters"]
    assert "add up beyond 2^61" in caplog.text


def test_documents_in_memory_are_those_of_the_python_core() -> None:
    """In the same order, and with the same counts; erasures and repeats are among the records."""
    model = with_family("recalibrated")
    lines = [Line(topic, value) for topic, values in of_seed(41).items() for value in values]
    log = ordered_log(lines, model)
    made = [replayed_documents(log, model, log.end_us(None), None, core) for core in ("python", "compiled")]
    assert made[0].changes
    assert made[0].triggers
    assert made[1] == made[0]
    assert log.records


def test_as_many_threads_as_one_likes_write_the_same_files(
    tmp_path: Path,
) -> None:
    """What becomes of one customer depends on no other."""
    path = tmp_path / "purchases.jsonl"
    path.write_bytes(b"\n".join(of_seed(3)["purchases"]))
    made = []
    for threads in (1, 2, 5):
        out = tmp_path / str(threads)
        run_replay(
            [path], [], [], out, model_with(**MODEL_OVERRIDES), None, processes=threads, core="compiled"
        )
        made.append([(out / f"{name}.jsonl").read_bytes() for name in NAMES[:4]])
    assert made[0] == made[1] == made[2]


# ------------------------------------------------- made-up records

_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), min_size=1, max_size=6)
_NAME = st.sampled_from(("a", "b", "email", "push", 'ö\t"\\', "profiling", "x.y")) | _TEXT
_AMOUNT = st.sampled_from(("0", "0.00", "1.5", "19.99", "0.000001", "250", "000012.10")) | st.decimals(
    0, 5_000, places=4
).map(str)
_TIME = st.tuples(st.integers(0, 1_200), st.sampled_from((0, 1, 43_200_000_000, 86_399_999_999))).map(
    lambda at: f"{_date(at[0])}T{_clock(at[1])}Z"
)
_ANSWER = st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(-1e9, 1e9) | _NAME


def _date(day: int) -> str:
    return format_day(19_000 + day)


def _clock(of_day_us: int) -> str:
    seconds, micros = divmod(of_day_us, 1_000_000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{micros:06}"


def _record(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Document]:
    common = {
        "event_id": st.sampled_from(("e1", "e2", "e3")) | _NAME,
        "customer_id": st.sampled_from(("c1", "c2", "ç3")),
        "occurred_at": _TIME,
    }
    optional = {"attributes": st.none() | st.dictionaries(_NAME, _NAME, max_size=3)}
    return st.fixed_dictionaries({**common, **fields}, optional=optional)


_PURCHASES = st.lists(
    _record(
        kind=st.sampled_from(("order", "order", "order_updated", "refund", "cancellation")),
        order_id=st.sampled_from(("o1", "o2", "o3", "o4")),
        currency=st.sampled_from(("USD", "EUR", "JPY")),
        total=_AMOUNT,
        cost_of_goods=st.none() | _AMOUNT,
        items=st.none() | st.lists(st.fixed_dictionaries({"category": st.none() | _NAME}), max_size=3),
    ),
    max_size=25,
)
_ENGAGEMENTS = st.lists(
    _record(
        kind=st.sampled_from(("opened", "clicked", "delivered", "acquired", "declared", "support_contacted")),
        channel=st.none() | st.sampled_from(("email", "web", "", "x.y")),
        automated=st.none() | st.booleans(),
        cost=st.none() | _AMOUNT,
        currency=st.sampled_from(("USD", "EUR")),
        declared=st.none()
        | st.dictionaries(st.sampled_from(("budget", "urgency", "other")), _ANSWER, max_size=2),
    ),
    max_size=25,
)
_CONSENTS = st.lists(
    _record(
        kind=st.sampled_from(("consent", "consent", "consent", "consent", "erasure")),
        purpose=st.sampled_from(("email", "profiling", "profiling", "research")) | _NAME,
        granted=st.booleans(),
        expires_at=st.none() | _TIME,
    ),
    max_size=15,
)


@given(purchases=_PURCHASES, engagements=_ENGAGEMENTS, consents=_CONSENTS, is_opt_in=st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_both_cores_write_the_same_files_of_any_records(
    purchases: list[Document],
    engagements: list[Document],
    consents: list[Document],
    is_opt_in: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Made-up records: few customers and orders, so that much meets, on days that lie years apart."""
    records = {"purchases": purchases, "engagements": engagements, "consents": consents}
    lines: Lines = {
        topic: [
            json.dumps(record, ensure_ascii=len(records[topic]) % 2 == 0).encode()
            for record in records[topic]
        ]
        for topic in INPUT_TOPICS
    }
    rules = {"profiling": "opt_in" if is_opt_in else "opt_out", "other_purposes": ["research"]}
    model = model_with(**{**MODEL_OVERRIDES, **rules})
    check_alike(lines, tmp_path_factory.mktemp("any"), model, "2026-06-01T00:00:00Z")
