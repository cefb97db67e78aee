"""The names of `import ebbtide`: they are documented and typed, load when they are used, and need only the core."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

import ebbtide
from streams.extras import EXTRA_OF, MissingExtraError
from tests.door.isolated import run_core, run_without

NEED_THE_WORKER = ("Worker",)


@pytest.mark.parametrize("name", ebbtide.__all__)
def test_every_name_has_a_docstring_and_stands_on_the_front_page(name: str) -> None:
    """What `help(ebbtide)` shows first names all of them."""
    assert inspect.getdoc(getattr(ebbtide, name))
    assert f"`{name}`" in (ebbtide.__doc__ or "")


@pytest.mark.parametrize("name", ["analyze", "decode", "load_model", "replay"])
def test_functions_have_types(name: str) -> None:
    """Every parameter and the result are annotated."""
    function: Callable[..., Any] = getattr(ebbtide, name)
    signature = inspect.signature(function)
    assert signature.return_annotation is not inspect.Signature.empty
    untyped = [of for of, one in signature.parameters.items() if one.annotation is inspect.Parameter.empty]
    assert untyped == []


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As of any module."""
    with pytest.raises(AttributeError, match="no attribute 'Enrichr'"):
        _ = ebbtide.Enrichr


def test_the_core_needs_no_package_of_an_extra() -> None:
    """All names but the worker's load, and `help` reads like a front page, where only the core is installed."""
    done = run_core(
        "import ebbtide, pydoc\n"
        f"for name in set(ebbtide.__all__) - set({NEED_THE_WORKER!r}): getattr(ebbtide, name)\n"
        "print(pydoc.plain(pydoc.render_doc(ebbtide)))"
    )
    assert done.returncode == 0, done.stderr
    page = done.stdout
    assert page.index("Ebbtide notices when customers slip") < page.index("ebbtide.analyze(") < 1_000
    assert page.index("| `Settings`, `Worker` |") < page.index("PACKAGE CONTENTS")


def test_importing_it_loads_nothing_heavy() -> None:
    """Each name loads what it needs when it is first used."""
    done = run_core(
        "import ebbtide; print([name for name in ('numpy', 'pandas', 'pydantic') if name in sys.modules])"
    )
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("name", NEED_THE_WORKER)
def test_a_name_without_its_extra_says_in_one_line_which(name: str) -> None:
    """Both ways of asking for it."""
    for program in (f"import ebbtide; ebbtide.{name}", f"from ebbtide import {name}"):
        done = run_core(program)
        *_, last = done.stderr.strip().splitlines()
        assert last.endswith(f"ebbtide.{name} needs the extra worker: pip install 'ebbtide[worker]'")


def test_settings_need_the_core_only() -> None:
    """A command reads them before it knows what it needs."""
    done = run_core("import ebbtide; print(ebbtide.Settings().group_id)")
    assert done.stdout == "ebbtide\n", done.stderr


def test_an_error_of_another_import_is_told_as_it_is() -> None:
    """Where a package of the core is missing, no extra would help."""
    done = run_without(["msgspec"], "import ebbtide; ebbtide.Enricher")
    assert "needs the extra" not in done.stderr
    assert "msgspec" in done.stderr


def test_the_error_can_be_caught_as_an_import_error() -> None:
    """As code that tries optional packages does."""
    assert issubclass(MissingExtraError, ImportError)
    assert MissingExtraError.exit_code == 2
    assert set(EXTRA_OF.values()) == {"worker", "demo", "calibration", "testing", "msk", "files", "outputs"}
