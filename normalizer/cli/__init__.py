"""The command line. Results go to stdout (`--json`: one document), everything else to stderr.

Exit codes: 0 ok, 1 failed, 2 usage or a wrong setting, 3 not ready (a service cannot be reached).
"""

from normalizer.cli import serve, sheets, normalize, system  # noqa: F401, I001 — the order of the help
from normalizer.cli.app import FAILED, NOT_READY, OK, USAGE, app, exit_code, main

__all__ = ["FAILED", "NOT_READY", "OK", "USAGE", "app", "exit_code", "main"]
