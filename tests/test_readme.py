"""The README: its records are accepted as they stand, and its links lead somewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from schemas.decode import decode
from schemas.events import Consent, Engagement, Purchase

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


def test_links_lead_to_files_of_the_repository() -> None:
    """No page that the README names is missing."""
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
