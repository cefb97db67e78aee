"""The demo's model: fitted to the first nine months of its data, so that the last three can show what it is worth."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from enrichment.model import load_model
from schemas.documents import Document
from schemas.timestamps import parse_timestamp
from schemas.topics import InputTopic
from streams.console.refusals import Refusals
from streams.insight.calibrate import Wanted, fit, model_text
from streams.replay.log import Line, ordered_log

CUT: Final = "2017-10-01T00:00:00Z"
"""The model knows nothing of this moment, nor of any after it."""


def fit_demo_model(values: Iterable[tuple[InputTopic, bytes]], path: Path) -> Document:
    """Write the model file that `ebbtide calibrate` would fit to the records before the cut; gives its report.

    Nothing is judged: the demo shows what became of it.
    """
    base, until_us = load_model(), parse_timestamp(CUT) - 1
    log = ordered_log((Line(topic, value) for topic, value in values), base, until_us)
    document, report = fit(
        log, base, until_us, Wanted(name="demo", is_judged=False), horizons=None, refusals=Refusals()
    )
    path.write_text(model_text(document), encoding="utf-8")
    return report
