"""How processes of several workers are started."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.app import environment_of
from streams.settings import load_settings


def test_each_process_has_the_settings_of_all_and_a_port_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where `--config` names another file than the environment, whose settings are not theirs."""
    named, other = tmp_path / "named.yaml", tmp_path / "other.yaml"
    named.write_text("group_id: ours\nweb_port: 7000\n")
    other.write_text("group_id: theirs\nnamespace: theirs\n")
    monkeypatch.setenv("EBBTIDE_CONFIG", str(other))
    settings = load_settings(named)
    environment = environment_of(settings, 2)
    monkeypatch.setattr("os.environ", environment)
    assert load_settings() == settings.model_copy(update={"web_port": 7002})
