"""What a command left behind; the fixture `run` (conftest.py) runs one in this process as an operator does."""

from __future__ import annotations

import json
from typing import Any, NamedTuple


class Ran(NamedTuple):
    """Exit code, stdout and stderr."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document of `--json`."""
        return json.loads(self.out)
