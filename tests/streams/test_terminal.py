"""What customers' data put into text for a terminal or a pipe can be read there, and is never obeyed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
import pytest

from enrichment.customer.customer import Customer, empty_state
from streams.cli.commands import main
from streams.console.terminal import visible, visible_document, visible_json
from streams.insight.profiles import export_profiles
from streams.settings import Settings
from tests.streams.held_group import NOWHERE, hold
from tests.streams.some_profiles import profile

EVIL = "a\x1b]0;owned\x07\x1b[2J\nerror: \x9b31m\u202egnp\u2028\x7fß→"
SEEN = r"a\x1b]0;owned\x07\x1b[2J\nerror: \x9b31m\u202egnp\u2028\x7fß→"
OBEYED = "\x1b\x07\x9b\u202e\u2028\x7f"

Ebbtide = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ebbtide(capfd: pytest.CaptureFixture[str]) -> Ebbtide:
    """A command line: exit code, output and errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main(list(arguments))
        said = capfd.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def held_evil(redis_url: str, unique_prefix: str) -> Settings:
    """A group of one customer, whose id is not meant well."""
    settings = Settings(
        kafka_bootstrap_servers=NOWHERE, redis_url=redis_url, group_id=f"{unique_prefix}group", clock="event"
    )
    model = settings.load_model()
    state = empty_state()
    state.latest_us, state.due_day = 1, 20_000
    hold(settings, model, 0, 20_000, [Customer(EVIL, state, model)])
    return settings


def is_harmless(text: str) -> bool:
    return not any(character in text for character in OBEYED)


def test_control_characters_are_shown_as_python_writes_them() -> None:
    """Those that start commands, end lines, or turn the direction of text; letters of all scripts stay."""
    assert visible(EVIL) == SEEN
    assert visible("\ud800 é 日本 עברית \xa0") == r"\ud800 é 日本 עברית " + "\xa0"


def test_a_document_for_people_has_visible_keys_too() -> None:
    """Names of attributes and channels come from records."""
    assert visible_document({EVIL: [EVIL, 1, None, (EVIL,)]}) == {SEEN: [SEEN, 1, None, [SEEN]]}


def test_json_means_the_same() -> None:
    """Whoever reads it gets the very text back."""
    document = {EVIL: [EVIL, "\U000e0001"]}
    text = visible_json(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
    assert json.loads(text) == document
    assert is_harmless(text)
    assert "\U000e0001" not in text


@pytest.mark.parametrize("more", [(), ("--json",)], ids=["text", "JSON"])
def test_an_audit_shows_the_values_of_attributes(
    more: tuple[str, ...], ebbtide: Ebbtide, tmp_path: Path
) -> None:
    """Each is one group in one line, whatever it holds."""
    documents = [
        profile(f"c{number}", "named", "high", region=EVIL if number % 2 else "north") for number in range(4)
    ]
    path = tmp_path / "profiles.jsonl"
    path.write_bytes(b"\n".join(map(orjson.dumps, documents)) + b"\n")
    code, out, err = ebbtide("audit", "--by", "region", "--profiles", str(path), *more)
    assert (code, err) == (0, "0 of 4 profiles were refused\n")
    assert is_harmless(out)
    assert "north" in out
    if not more:
        assert SEEN in out
    code, out, err = ebbtide("audit", "--by", EVIL, "--profiles", str(path), *more)
    assert code == 2
    assert is_harmless(err)
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("command", ["explain", "explain --json", "whatif", "whatif --json"])
def test_what_is_told_of_a_customer_shows_their_id(
    command: str, ebbtide: Ebbtide, held_evil: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An id may hold whatever a producer writes."""
    for name, value in held_evil.as_environment().items():
        monkeypatch.setenv(name, value)
    name, *more = command.split()
    arguments = {"explain": [EVIL], "whatif": ["--tier", "strategic=1"]}
    code, out, err = ebbtide(name, *arguments[name], *more)
    assert code == (1 if name == "whatif" else 0)
    assert is_harmless(out + err)
    if command == "explain":
        assert out.startswith(f"Customer {SEEN}, as of ")
    if command == "explain --json":
        assert json.loads(out)["profile"]["customer_id"] == EVIL


def test_profiles_written_to_a_pipe_mean_the_same_and_do_nothing_to_a_terminal(
    held_evil: Settings, tmp_path: Path
) -> None:
    """A file gets the bytes as they are; a pipe, which may end at a terminal, gets controls escaped as JSON has it."""
    file, pipe = tmp_path / "profiles.jsonl", tmp_path / "pipe"
    export_profiles(held_evil, file, None)
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as thread:
        read = thread.submit(pipe.read_text, "utf-8")
        export_profiles(held_evil, pipe, None)
        text = read.result(10)
    assert is_harmless(text)
    assert json.loads(text) == json.loads(file.read_text("utf-8"))
    assert json.loads(text)["customer_id"] == EVIL


def test_errors_show_what_they_name(ebbtide: Ebbtide, tmp_path: Path) -> None:
    """With their stack trace too."""
    path = tmp_path / "profiles.jsonl"
    path.write_bytes(orjson.dumps({**profile(EVIL, "named", "high"), EVIL: 1}))
    for more in ((), ("--debug",)):
        code, out, err = ebbtide(*more, "audit", "--by", EVIL, "--profiles", str(path))
        assert code != 0
        assert is_harmless(out + err)
