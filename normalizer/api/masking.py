"""Masks of a patient's data: initials, and documents but for their last two digits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

HIDDEN: Final = "•"
_SHOWN: Final = 2
_SMALL_WORDS: Final = frozenset({"da", "das", "de", "do", "dos", "e"})
# A CEP has eight digits; longer runs in an address are phones or documents.
_LONG_RUN: Final = re.compile(r"(?:[0-9][.\-/ ()]{0,2}){9,}", re.ASCII)


def document_text(text: str) -> str:
    """`CPF: 111.444.777-35` → `CPF: •••.•••.•••-35`: the last two digits of each run of digits stay."""
    return re.sub(r"[0-9](?:[0-9Xx.\-/ ]*[0-9Xx])?", lambda run: _hide(run[0]), text)


def address_text(text: str) -> str:
    """An address as it is, but for runs of nine digits and more."""
    return _LONG_RUN.sub(lambda run: _hide(run[0].rstrip(" .-/()")) + run[0][len(run[0].rstrip(" .-/()")) :], text)


def document_value(value: Mapping[str, Any] | None) -> dict[str, str | None] | None:
    """`documento_normalizado` with its digits hidden."""
    if value is None:
        return None
    return {name: document_text(text) if isinstance(text, str) else None for name, text in value.items()}


def initials(name: str) -> str:
    """`Maria da Silva` → `M. S.`"""
    words = [word for word in name.split() if word.lower() not in _SMALL_WORDS]
    return " ".join(f"{word[0].upper()}." for word in words[:4])


def _hide(run: str) -> str:
    digits = [at for at, char in enumerate(run) if char.isalnum()]
    hidden = set(digits[:-_SHOWN] if len(digits) > 2 * _SHOWN else digits)
    return "".join(HIDDEN if at in hidden else char for at, char in enumerate(run))
