"""How processes of several workers are started."""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

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


@pytest.mark.parametrize("variable", ["EBBTIDE_ERASURE_KEY_FILE", "ebbtide_erasure_key_file"])
def test_processes_started_together_have_the_secrets_that_a_file_held(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is read once; named again beside its secret, it would be a setting given twice."""
    (tmp_path / "key").write_text("a key out of a file", encoding="utf-8")
    monkeypatch.setenv(variable, str(tmp_path / "key"))
    settings = load_settings()
    with mock.patch.dict(os.environ, environment_of(settings, 0), clear=True):
        assert load_settings() == settings
        assert load_settings().erasure_key.get_secret_value() == "a key out of a file"
