"""docs/operating.md: its table of settings is that of the code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from streams.settings import Settings

OPERATING = Path(__file__).parents[2] / "docs" / "operating.md"


def settings_table() -> dict[str, list[str]]:
    """(default, allowed, meaning) by setting, in the order of the page."""
    section = OPERATING.read_text("utf-8").partition("\n## Settings\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert rows[0] == ["setting", "default", "allowed", "meaning"]
    return {name.strip("`"): rest for name, *rest in rows[2:]}


def shown(default: Any) -> str:
    """A default as the page writes it; a secret is not shown."""
    if isinstance(default, SecretStr):
        return "a known key"
    if default is None or default in ("", ()):
        return "empty" if default == "" else "none"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def test_the_table_holds_every_setting_and_nothing_else() -> None:
    """Settings are listed once each, in the order of the code."""
    assert list(settings_table()) == list(Settings.model_fields)


@pytest.mark.parametrize("name", Settings.model_fields)
def test_a_row_gives_default_and_what_is_allowed(name: str) -> None:
    """Defaults and allowed values are those of the code; the meaning is there."""
    field = Settings.model_fields[name]
    default, allowed, meaning = settings_table()[name]
    assert (default, allowed) == (shown(field.default), field.description)
    assert meaning
