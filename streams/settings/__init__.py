"""Settings of a worker or a command: which there are, where they are read from, and which belong together."""

from streams.settings.loading import CONFIG_VARIABLE, SECRET_FILE_VARIABLES, load_settings
from streams.settings.settings import DEFAULT_ERASURE_KEY, PREFIX, Settings, variable

__all__ = [
    "CONFIG_VARIABLE",
    "DEFAULT_ERASURE_KEY",
    "PREFIX",
    "SECRET_FILE_VARIABLES",
    "Settings",
    "load_settings",
    "variable",
]
