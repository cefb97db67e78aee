"""Replay against the independent computation of scores, by every family that can be computed in another way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from enrichment.model import load_model, parse_model
from schemas.topics import INPUT_TOPICS, InputTopic
from streams.demo.demo import load_events
from streams.replay.documents import replayed_documents
from streams.replay.log import Line, ordered_log
from tests.enrichment.test_recalibrated import SOME
from tests.enrichment.test_recalibrated import document as family_document
from tests.oracles.recount import read_log
from tests.oracles.rescore import rescore

FAMILIES: dict[str, dict[str, Any]] = {
    "pareto_nbd": {"family": "pareto_nbd", "r": 2.1, "alpha": 1.3, "s": 0.4, "beta": 9.0},
    "bg_nbd": {"family": "bg_nbd", "r": 1.7, "alpha": 1.2, "a": 0.7, "b": 8.0},
    "mbg_cnbd_k, k = 1": {"family": "mbg_cnbd_k", "k": 1, "r": 1.7, "alpha": 1.2, "a": 0.7, "b": 8.0},
    "mbg_cnbd_k, k = 3": {"family": "mbg_cnbd_k", "k": 3, "r": 4.0, "alpha": 1.5, "a": 0.6, "b": 9.0},
    "recalibrated": family_document(SOME),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_replay_scores_as_an_independent_computation_does(name: str, tmp_path: Path) -> None:
    """Sixty households of the demo; both are rounded to 6 decimals, so that a tie may differ by one of the last."""
    values: dict[InputTopic, list[bytes]] = {topic: [] for topic in INPUT_TOPICS}
    for topic, _, _, value in load_events(3):
        values[topic].append(value)
    for of, lines in values.items():
        (tmp_path / f"{of}.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    document = json.loads(load_model().model_dump_json(exclude_unset=True))
    document["lifetime_value"] |= {"time_unit": "week", "purchases": FAMILIES[name]}
    document["lifecycle"] |= {"window_days": 60, "at_risk_silence_risk": 0.5, "lapsed_silence_risk": 0.8}
    document["hysteresis"]["silence_risk_margin"] = 0.05
    model = parse_model(json.dumps(document), "a test")
    log = ordered_log((Line(topic, value) for topic in INPUT_TOPICS for value in values[topic]), model)
    found = replayed_documents(log, model, log.end_us(None), None)
    oracle = rescore(read_log(**{topic: tmp_path / f"{topic}.jsonl" for topic in INPUT_TOPICS}), document)
    compared = 0
    for profile in found.profiles:
        scores: Any = profile["scores"]
        traits: Any = profile["traits"]
        if scores["value"] is None:
            continue
        expected = oracle.loc[profile["customer_id"]]
        for column in ("business", "engagement", "cost", "potential", "value"):
            assert scores[column] == pytest.approx(expected[column], abs=1.01e-6), (profile, column)
        for column in ("probability_active", "churn_risk", "silence_risk", "expected_orders_365d"):
            if traits[column] is not None:
                assert traits[column] == pytest.approx(expected[column], abs=1.01e-6), (profile, column)
                compared += 1
        if traits["value_at_stake"] is not None:
            assert float(traits["value_at_stake"]) == pytest.approx(expected["value_at_stake"], abs=0.00501)
    assert compared > 200
