"""What `tests.acceptance.fuzz` has schemathesis check beside its own checks: that no answer holds a patient's datum.

The patients below are invented; nothing else in the database is. Loaded by schemathesis (SCHEMATHESIS_HOOKS).
"""

from __future__ import annotations

import os
import re
from typing import Any

import schemathesis

#: (name, CPF, RG): what no answer may hold unless an operator asked for it.
PATIENTS = (
    ("Zuleica Quaresma Fictícia", "11144477735", "498765432"),
    ("Tibúrcio Imaginário Prado", "52998224725", "387654321"),
)
_WORDS = ("zuleica", "quaresma", "tibúrcio", "imaginário")
_OPEN = re.compile(r"documentos=abertos")


def leaks(text: str) -> list[str]:
    """Which of the patients' names and documents stand in it, however punctuated."""
    folded, digits = text.casefold(), re.sub(r"(?<=\d)[.\-/ ](?=\d)", "", text)
    numbers = [number for _, cpf, rg in PATIENTS for number in (cpf, rg)]
    return [word for word in _WORDS if word in folded] + [number for number in numbers if number in digits]


@schemathesis.check
def no_leak(_ctx: Any, response: Any, case: Any) -> None:
    """Only an operator who asked for it sees a patient; what a request itself said may come back."""
    asked = str(response.request.url)
    if os.environ["FUZZ_ROLE"] == "operator" and (_OPEN.search(asked) or case.path.endswith("erros.xlsx")):
        return
    found = set(leaks(response.content.decode("utf-8", "replace"))) - set(leaks(asked))
    if found:
        raise AssertionError(f"{case.method} {case.path} told {len(found)} data of a patient")
