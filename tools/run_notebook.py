"""Run a notebook's cells in order, in one namespace, and put what they give into it.

    python -m tools.run_notebook examples/analyze.ipynb

Without Jupyter: what a cell prints and the value of its last expression become its outputs. A cell that fails raises.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import json
from pathlib import Path
from typing import Any

Cell = dict[str, Any]


def run_notebook(document: dict[str, Any]) -> dict[str, Any]:
    """The notebook (nbformat 4) with new outputs; the given one is left as it is."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    cells: list[Cell] = []
    for cell in document["cells"]:
        if cell["cell_type"] == "code":
            count = 1 + sum(one["cell_type"] == "code" for one in cells)
            cell = {**cell, "execution_count": count, "outputs": _run(cell, count, namespace)}
        cells.append(cell)
    return {**document, "cells": cells}


def _run(cell: Cell, count: int, namespace: dict[str, Any]) -> list[dict[str, Any]]:
    """Run one cell; gives its outputs."""
    tree = ast.parse("".join(cell["source"]))
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed, value = io.StringIO(), None
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, f"<cell {count}>", "exec"), namespace)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), f"<cell {count}>", "eval"), namespace)
    outputs: list[dict[str, Any]] = []
    if printed.getvalue():
        outputs.append({"name": "stdout", "output_type": "stream", "text": _lines(printed.getvalue())})
    if value is not None:
        shown = {"text/plain": _lines(repr(value))}
        if hasattr(value, "_repr_html_") and (html := value._repr_html_()) is not None:
            shown["text/html"] = _lines(html)
        outputs.append(
            {"data": shown, "execution_count": count, "metadata": {}, "output_type": "execute_result"}
        )
    return outputs


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def main() -> None:
    """Run the notebooks that are named, and write them anew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebooks", nargs="+", type=Path)
    for path in parser.parse_args().notebooks:
        document = run_notebook(json.loads(path.read_text("utf-8")))
        path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
