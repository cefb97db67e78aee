"""What is published: a wheel with the compiled core in it, and a source archive that such a wheel can be built from."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SITE_PACKAGES = next(Path(entry) for entry in sys.path if entry.endswith("site-packages"))
ORDER = {
    "event_id": "p1",
    "customer_id": "c1",
    "occurred_at": "2026-01-05T10:00:00Z",
    "kind": "order",
    "order_id": "o1",
    "currency": "USD",
    "total": "99.50",
}

pytestmark = [
    pytest.mark.deep,
    pytest.mark.timeout(900),
    pytest.mark.skipif(shutil.which("cargo") is None, reason="there is no cargo here"),
]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source archive, and the wheel that was built from it alone."""
    folder = tmp_path_factory.mktemp("built")
    source = folder / "source"
    kept = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, kept.stdout.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name)
    build = "from setuptools import build_meta; build_meta.build_sdist('..')"
    _run([sys.executable, "-c", build], source)
    (archive,) = folder.glob("ebbtide-*.tar.gz")
    with tarfile.open(archive) as told:
        told.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    _run(
        [sys.executable, "-c", "from setuptools import build_meta; build_meta.build_wheel('../..')"], unpacked
    )
    return folder


def test_one_wheel_is_for_every_python(built: Path) -> None:
    """Of the stable ABI, and with the compiled core; no source of it, and no test."""
    (wheel,) = built.glob("*.whl")
    assert "-cp311-abi3-" in wheel.name
    names = zipfile.ZipFile(wheel).namelist()
    assert [name for name in names if name.endswith(".so")] == ["enrichment/_kernel.abi3.so"]
    assert not [name for name in names if name.startswith(("tests/", "kernel/", "bench/"))]


def test_the_installed_wheel_replays_by_the_compiled_core(built: Path, tmp_path: Path) -> None:
    """In an environment of its own, far from the sources; what it depends on is lent by this one."""
    (wheel,) = built.glob("*.whl")
    venv.create(tmp_path / "environment", with_pip=True)
    python = tmp_path / "environment" / "bin" / "python"
    _run([python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel)], tmp_path)
    found = _run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], tmp_path)
    lent = [path for path in SITE_PACKAGES.iterdir() if "ebbtide" not in path.name and path.suffix != ".pth"]
    for path in lent:
        place = Path(found.strip()) / path.name
        if not place.exists():
            place.symlink_to(path)
    (tmp_path / "purchases.jsonl").write_text(json.dumps(ORDER) + "\n")
    assert "the compiled core is built" in _run([python, "-m", "enrichment.kernel"], tmp_path)
    ebbtide = tmp_path / "environment" / "bin" / "ebbtide"
    _run(
        [str(ebbtide), "replay", "--purchases", "purchases.jsonl", "--out", "out"],
        tmp_path,
        EBBTIDE_CORE="compiled",
    )
    assert (tmp_path / "out" / "segment-changes.jsonl").read_text().count("c1") > 0


def _run(command: Sequence[str | Path], folder: Path, **more: str) -> str:
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env={**environment, **more}, check=False
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    return done.stdout
