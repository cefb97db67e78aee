"""docker-compose.yml and Dockerfile fit the command line and the settings; no Docker is asked."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from streams.cli.commands import cli
from streams.settings import load_settings

ROOT = Path(__file__).parents[2]


def services() -> dict[str, Any]:
    """The services of docker-compose.yml by name, merge keys resolved."""
    document: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    services: dict[str, Any] = document["services"]
    return services


def image_environment() -> dict[str, str]:
    """What the Dockerfile sets for Ebbtide."""
    return dict(re.findall(r"\b(EBBTIDE_[A-Z_]+)=(\S+)", (ROOT / "Dockerfile").read_text("utf-8")))


@pytest.mark.parametrize("name", ["topics", "worker"])
def test_a_container_starts_a_command_that_exists(name: str) -> None:
    """Its words are a command of the command line, with options that it takes."""
    command: click.Command = cli
    words = list(services()[name]["command"])
    while isinstance(command, click.Group):
        command = command.commands[words.pop(0)]
    command.make_context(name, words)  # raises UsageError for options that it does not know


@pytest.mark.parametrize("name", ["topics", "worker"])
def test_a_container_has_valid_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Image and service together set nothing but settings, to values that are allowed."""
    for variable in [name for name in os.environ if name.upper().startswith("EBBTIDE_")]:
        monkeypatch.delenv(variable)
    given = {**image_environment(), **services()[name]["environment"]}
    for variable, value in given.items():
        value = re.sub(r"\$\{\w+:\?.*\}", "a secret from the shell", value)
        monkeypatch.setenv(variable, re.sub(r"\$\{\w+:-(.*)\}", r"\1", value))
    settings = load_settings()
    assert not settings.has_default_erasure_key
    assert settings.redis_address == "redis://redis:6379/0"


def test_make_up_writes_an_erasure_key_of_its_own_and_keeps_it(tmp_path: Path) -> None:
    """Each checkout has another one, which nobody else can read."""
    keys = []
    for name in ("one", "other"):
        folder = tmp_path / name
        folder.mkdir()
        for _ in range(2):
            command = ["make", "--silent", "-f", str(ROOT / "Makefile"), f"PYTHON={sys.executable}", ".env"]
            subprocess.run(command, cwd=folder, check=True, timeout=60)
        variable, _, key = (folder / ".env").read_text("utf-8").strip().partition("=")
        assert variable == "EBBTIDE_ERASURE_KEY"
        assert len(key) == 32
        assert (folder / ".env").stat().st_mode & 0o077 == 0
        keys.append(key)
    assert keys[0] != keys[1]


def test_the_worker_can_be_asked_from_outside_its_container() -> None:
    """The health endpoints listen on every address of the container, on the port that is mapped."""
    assert image_environment()["EBBTIDE_WEB_BIND"] == "0.0.0.0"
    port = image_environment()["EBBTIDE_WEB_PORT"]
    assert services()["worker"]["ports"] == [f"127.0.0.1:{port}:{port}"]


@pytest.mark.parametrize("name", ["kafka", "redis", "topics", "worker", "prometheus", "grafana"])
def test_every_service_has_a_health_check(name: str) -> None:
    """Those that keep something do so in a named volume."""
    service = services()[name]
    assert service["healthcheck"]["test"][0] == "CMD"
    for volume in service.get("volumes", []):
        assert re.match(r"[a-z-]+:/|\./.+:ro$", volume)


def test_what_a_service_mounts_from_the_repository_is_there() -> None:
    """Docker would make a folder of what is missing."""
    mounted = [v.split(":")[0] for s in services().values() for v in s.get("volumes", []) if v[0] == "."]
    assert mounted
    assert [path for path in mounted if not (ROOT / path).exists()] == []


def test_only_the_profile_adds_services_to_look_at() -> None:
    """Without it, `docker compose up` starts what it takes to work and no more."""
    with_profile = {name for name, service in services().items() if service.get("profiles") == ["observe"]}
    assert with_profile == {"prometheus", "grafana"}
