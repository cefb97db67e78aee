"""The command line: ``ebbtide``, and ``python -m streams``."""
