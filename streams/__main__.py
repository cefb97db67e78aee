"""``python -m streams`` is ``ebbtide``."""

from __future__ import annotations

import sys

from streams.cli.commands import main

if __name__ == "__main__":
    sys.exit(main())
