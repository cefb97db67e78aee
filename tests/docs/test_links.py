"""What README.md and the pages in docs/ point to: files, headings, and commands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from streams.cli.commands import cli

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
_CALL = re.compile(r"(?:\$ )?(?:\S*/)?(?:ebbtide|python -m streams)\s+(.+)")

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def links(page: Path) -> list[str]:
    """Targets inside the repository; what stands in code is no link."""
    text = _SPAN.sub("", _FENCE.sub("", page.read_text("utf-8")))
    return [target for target in _LINK.findall(text) if not re.match(r"[a-z]+:", target)]


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub makes them into anchors."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def calls(page: Path) -> Iterator[list[str]]:
    """The words after `ebbtide` of every command in code, whole lines of blocks and spans."""
    text = page.read_text("utf-8")
    blocks = "\n".join(_FENCE.findall(text)).replace("\\\n", " ")
    for code in [*blocks.splitlines(), *_SPAN.findall(_FENCE.sub("", text))]:
        found = _CALL.fullmatch(code.strip())
        if found is not None:
            yield found[1].split()


def mistake(words: list[str]) -> str | None:
    """What the command line does not know of a call: a command or an option."""
    command: click.Command = cli
    rest = list(words)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        if name not in command.commands:
            return name
        command = command.commands[name]
    known = {option for parameter in command.params for option in parameter.opts} | {"--help", "-h"}
    asked = re.findall(r"--[a-z][a-z-]*", " ".join(rest))
    return next((option for option in asked if option not in known), None)


@pages
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    """A relative link names a file of the repository, and its anchor a heading of that page."""
    for target in links(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert file.is_relative_to(ROOT), target
        if anchor:
            assert anchor in anchors(file), target


@pages
def test_commands_exist_with_their_options(page: Path) -> None:
    """Every `ebbtide` command that a page names is one of the command line, and so are its options."""
    wrong = {" ".join(words): mistake(words) for words in calls(page)}
    assert {call: what for call, what in wrong.items() if what is not None} == {}


def test_the_pages_name_commands() -> None:
    """The search finds what is there: contract.md names every command."""
    named = {words[0] for words in calls(ROOT / "docs" / "contract.md")}
    assert named >= set(cli.commands)
