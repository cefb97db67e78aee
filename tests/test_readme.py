"""The README: its records are accepted as they stand and give the one that it shows; its links lead somewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from schemas.decode import decode
from schemas.events import Consent, Engagement, Purchase
from streams.cli.commands import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
EXAMPLES = re.findall(r"^```json\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    ("at", "topic", "kind"),
    [(0, "purchases", Purchase), (1, "engagements", Engagement), (2, "consents", Consent)],
)
def test_the_input_examples_are_accepted(at: int, topic: str, kind: type) -> None:
    """Each is a well-formed record of its topic, with the customer's id as key."""
    value = EXAMPLES[at].encode()
    key = json.loads(value)["customer_id"].encode()
    assert isinstance(decode(topic, value, key), kind)  # type: ignore[arg-type]


def test_the_input_examples_give_the_change_that_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replayed with the currency of the README's own settings; of drivers and traits it shows some."""
    currency = re.search(r"^export EBBTIDE_BASE_CURRENCY=([A-Z]{3}) ", README, flags=re.MULTILINE)
    until = re.search(r"`ebbtide replay --until (\S+)`", README)
    assert currency is not None
    assert until is not None
    monkeypatch.setenv("EBBTIDE_BASE_CURRENCY", currency[1])
    arguments = ["replay", "--out", str(tmp_path / "out"), "--until", until[1]]
    for topic, example in zip(("purchases", "engagements", "consents"), EXAMPLES, strict=False):
        path = tmp_path / f"{topic}.jsonl"
        path.write_text(example.replace("\n", " "), encoding="utf-8")
        arguments += [f"--{topic}", str(path)]
    assert main([*arguments, "--fail-over-refused", "0"]) == 0
    changes = map(json.loads, (tmp_path / "out" / "segment-changes.jsonl").read_text("utf-8").splitlines())
    shown = json.loads(EXAMPLES[3])
    (change,) = (change for change in changes if change["sequence"] == shown["sequence"])
    change["traits"] = {name: change["traits"][name] for name in shown["traits"]}
    change["reason"]["drivers"] = change["reason"]["drivers"][: len(shown["reason"]["drivers"])]
    assert shown == change


def test_links_lead_to_files_of_the_repository() -> None:
    """No page that the README names is missing."""
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
