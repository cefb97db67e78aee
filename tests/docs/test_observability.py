"""The dashboard, the alert rules and docs/operating.md speak of metrics that a worker exports, with their labels."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from streams.checkpoint import Checkpoint, FirstLoad
from streams.metrics.renamed import OLD_NAMES
from streams.settings import Settings
from streams.settings.settings import RENAMED
from streams.worker.clock import EventClock
from streams.worker.exposition import Exposition
from streams.worker.first_load import LoadProgress
from streams.worker.partition_state import Status
from streams.worker.partition_task import PartitionTask
from streams.worker.worker import Worker

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "ops" / "grafana" / "ebbtide.json"
ALERTS = ROOT / "ops" / "prometheus" / "alerts.yml"
OPERATING = ROOT / "docs" / "operating.md"
OF_PROMETHEUS = {"up": set[str]()}
"""Made by Prometheus itself."""
TARGET_LABELS = {"job", "instance"}
"""Added by Prometheus to all that it scrapes."""

Labels = dict[str, set[str]]


@pytest.fixture
async def exported(monkeypatch: pytest.MonkeyPatch) -> Labels:
    """The labels of every sample that a worker with one partition can export, by name; no service is asked."""
    settings = Settings()
    worker = Worker(settings)
    task = PartitionTask(worker.runtime, EventClock(), 0)
    task.state.checkpoint = Checkpoint(
        1, "token", 20_000, {}, FirstLoad({"consents": 0}, {"consents": 1}, 20_000)
    )
    task.state.status = Status.LOADING
    task.state.loading = LoadProgress(0)
    task.state.loading.seconds_left = 60.0
    task.state.is_clock_trusted = True
    worker.tasks[0] = task

    async def no_customers(task: PartitionTask) -> int:
        return 0

    monkeypatch.setattr(PartitionTask, "lag", lambda self, ends: {"purchases": 0})
    monkeypatch.setattr(PartitionTask, "count_due", no_customers)
    worker.metrics.note_midnights(0, 1, 2)
    worker.metrics.note_back_off(OSError())
    with worker.metrics.restore(0):
        text, _ = await Exposition(worker).answer("")
    labels: Labels = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    return labels


def selectors(expression: Any) -> Iterator[Any]:
    """Every vector selector of a parsed PromQL expression."""
    if isinstance(expression, promql.VectorSelector):
        yield expression
        return
    inner = [getattr(expression, name, None) for name in ("expr", "lhs", "rhs", "vector_selector", "param")]
    for part in [*inner, *getattr(expression, "args", [])]:
        if part is not None:
            yield from selectors(part)


def grouped_by(expression: Any) -> set[str]:
    """Every label that an expression groups or matches by."""
    labels: set[str] = set()
    for modifier in re.findall(r"\b(?:by|on|ignoring|without|group_left)\s*\(([^()]*)\)", str(expression)):
        labels |= {label.strip() for label in modifier.split(",") if label.strip()}
    return labels


def parsed(expression: str) -> Any:
    """PromQL with Grafana's variables put in."""
    plain = re.sub(r"\$__(rate_interval|range|interval)\b", "5m", expression)
    return promql.parse(plain)


def mistakes(expression: str, exported: Labels) -> list[str]:
    """What an expression uses that no worker exports."""
    tree = parsed(expression)
    known = {**exported, **OF_PROMETHEUS}
    found, labels = [], set(TARGET_LABELS)
    for selector in selectors(tree):
        if selector.name not in known:
            found.append(f"no metric {selector.name}")
            continue
        labels |= known[selector.name]
        used = {matcher.name for matcher in selector.matchers.matchers}
        found += [
            f"{selector.name} has no label {label}" for label in used - known[selector.name] - TARGET_LABELS
        ]
    return found + [f"nothing here has a label {label}" for label in grouped_by(tree) - labels]


def dashboard_panels() -> list[dict[str, Any]]:
    """The panels that show something."""
    document = json.loads(DASHBOARD.read_text("utf-8"))
    return [panel for panel in document["panels"] if panel["type"] != "row"]


def alert_rules() -> list[dict[str, Any]]:
    document = yaml.safe_load(ALERTS.read_text("utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("panel", dashboard_panels(), ids=lambda panel: str(panel["title"]))
def test_a_panel_shows_what_is_exported(panel: dict[str, Any], exported: Labels) -> None:
    """Each query parses, and every metric and label in it and in its legend is one of a worker's."""
    assert panel["targets"]
    for target in panel["targets"]:
        assert mistakes(target["expr"], exported) == []
        legend = set(re.findall(r"\{\{\s*(\w+)\s*\}\}", target["legendFormat"]))
        assert legend <= grouped_by(parsed(target["expr"])) | {"partition", "instance"}


def test_panels_lie_side_by_side() -> None:
    """No two panels overlap, each has an id of its own, and none is wider than the page."""
    document = json.loads(DASHBOARD.read_text("utf-8"))
    ids = [panel["id"] for panel in document["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for at in (panel["gridPos"] for panel in document["panels"]):
        cells = {(at["x"] + dx, at["y"] + dy) for dx in range(at["w"]) for dy in range(at["h"])}
        assert not cells & taken
        assert at["x"] + at["w"] <= 24
        taken |= cells


@pytest.mark.parametrize("rule", alert_rules(), ids=lambda rule: str(rule["alert"]))
def test_an_alert_watches_what_is_exported(rule: dict[str, Any], exported: Labels) -> None:
    """Its expression and its summary name metrics and labels of a worker's, and it says how bad it is."""
    assert mistakes(rule["expr"], exported) == []
    assert rule["labels"]["severity"] in ("critical", "warning")
    used = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    names = {selector.name for selector in selectors(parsed(rule["expr"]))}
    known = set.union(*({**exported, **OF_PROMETHEUS}[name] for name in names))
    assert used <= known | TARGET_LABELS


def table(heading: str) -> dict[str, list[str]]:
    """The other cells by the first, of the table below a heading of docs/operating.md."""
    section = OPERATING.read_text("utf-8").partition(f"\n{heading}\n")[2].partition("\n## ")[0]
    section = section.partition("\n### ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {name.strip("`"): rest for name, *rest in rows}


def test_the_page_lists_every_metric_with_its_labels(exported: Labels) -> None:
    """Nothing more and nothing less; of a histogram its name, without the suffixes of its samples."""
    expected: Labels = {}
    for name, labels in exported.items():
        if name.startswith("ebbtide_"):
            is_part = re.sub(r"_(bucket|sum|count)$", "", name)
            base = is_part if f"{is_part}_bucket" in exported else name
            expected.setdefault(base, set()).update(labels - {"le"})
    documented = {name: set(re.findall(r"`(\w+)`", cells[1])) for name, cells in table("## Metrics").items()}
    renamed = {old: documented[now] for old, now in old_names().items() if old in expected}
    assert {**documented, **renamed} == expected


def old_names() -> dict[str, str]:
    """The name that each old name has given way to, by docs/operating.md."""
    return {old: cells[0].strip("`") for old, cells in table("### Old names").items()}


def test_the_page_lists_every_old_name() -> None:
    """Of settings and of metrics; the old ones are those that the code still knows."""

    def base(name: str) -> str:
        return name.removesuffix("_total")

    told = {base(old): base(now) for old, now in old_names().items()}
    assert told == {**RENAMED, **{old: now for now, old in OLD_NAMES.items()}}


def test_the_page_lists_every_alert() -> None:
    """With what to do about it."""
    documented = table("### Alerts")
    assert list(documented) == [rule["alert"] for rule in alert_rules()]
    assert all(all(cells) for cells in documented.values())


def test_alerts_fire_when_they_should() -> None:
    """Prometheus' own tool runs ops/prometheus/alerts_test.yml; skipped where it is not installed."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("needs promtool")
    done = subprocess.run(
        [promtool, "test", "rules", "alerts_test.yml"],
        cwd=ALERTS.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_nobody_exports_is_found(exported: Labels) -> None:
    """A metric, a matcher and a grouping that do not exist are each named."""
    assert mistakes("rate(ebbtide_event_total[5m])", exported) == ["no metric ebbtide_event_total"]
    assert mistakes('ebbtide_events_total{reason="x"}', exported) == [
        "ebbtide_events_total has no label reason"
    ]
    assert mistakes("sum by (reason) (ebbtide_events_total)", exported) == ["nothing here has a label reason"]
    nested = "sum by (job) (rate(ebbtide_events_total[5m])) / on (job) max(nothing_total) > 1"
    assert mistakes(nested, exported) == ["no metric nothing_total"]
