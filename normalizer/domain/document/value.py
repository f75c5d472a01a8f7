"""Document of a patient: a CPF whose check digits hold, a well-formed RG, or both.

Check digits: Receita Federal, Cadastro de Pessoas Físicas (modulo 11, weights 10..2 and 11..2).
An RG has no national form: 7 to 9 characters are accepted, the last may be X (modulo 11 states, SSP/SP among them).
Rio Grande do Sul and Bahia issue 10 digits; Ceará and Maranhão put the year of issue into the number, up to 13 digits
(`12.345.678.2021-0`). Those are an RG only where a label or an issuer says so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_RG: Final = re.compile(r"[0-9]{6,8}[0-9X]")
_LONG_RG: Final = re.compile(r"[0-9]{10,13}")


def _partial_sums(weights: tuple[int, int, int]) -> list[int]:
    a, b, c = weights
    return [a * (n // 100) + b * (n // 10 % 10) + c * (n % 10) for n in range(1000)]


# Three digits at a time: the weighted sums of both check digits are six look-ups instead of nineteen products.
_FIRST = tuple(_partial_sums(w) for w in ((10, 9, 8), (7, 6, 5), (4, 3, 2)))
_SECOND = tuple(_partial_sums(w) for w in ((11, 10, 9), (8, 7, 6), (5, 4, 3)))
_CHECK_DIGIT = tuple("0" if r < 2 else str(11 - r) for r in range(11))


def cpf_is_valid(digits: str) -> bool:
    """True for eleven ASCII digits, not all equal, whose two check digits hold."""
    if len(digits) != 11 or not (digits.isascii() and digits.isdigit()) or digits == digits[0] * 11:
        return False
    a, b, c = int(digits[:3]), int(digits[3:6]), int(digits[6:9])
    first = (_FIRST[0][a] + _FIRST[1][b] + _FIRST[2][c]) % 11
    if _CHECK_DIGIT[first] != digits[9]:
        return False
    second = (_SECOND[0][a] + _SECOND[1][b] + _SECOND[2][c] + 2 * int(digits[9])) % 11
    return _CHECK_DIGIT[second] == digits[10]


def rg_is_valid(text: str) -> bool:
    """True for 7 to 9 characters, digits but for a last X, not one digit repeated."""
    return _RG.fullmatch(text) is not None and text != text[0] * len(text)


def long_rg_is_valid(text: str) -> bool:
    """True for 10 to 13 digits, as few states issue them, that are no CPF: the new identity card's number is one."""
    return _LONG_RG.fullmatch(text) is not None and text != text[0] * len(text) and not cpf_is_valid(text)


def format_cpf(cpf: str) -> str:
    """`11144477735` → `111.444.777-35`."""
    return f"{cpf[:3]}.{cpf[3:6]}.{cpf[6:9]}-{cpf[9:]}"


def format_rg(rg: str) -> str:
    """By length, counting the X: 8 → `XX.XXX.XXX`, 9 → `XXX.XXX.XXX`, otherwise as it stands."""
    if len(rg) == 8:
        return f"{rg[:2]}.{rg[2:5]}.{rg[5:]}"
    if len(rg) == 9:
        return f"{rg[:3]}.{rg[3:6]}.{rg[6:]}"
    return rg


@dataclass(frozen=True, slots=True)
class Cpf:
    """A CPF whose check digits hold."""

    digits: str

    def __post_init__(self) -> None:
        if not cpf_is_valid(self.digits):
            raise ValueError("not a valid CPF")

    @classmethod
    def parse(cls, text: str) -> Cpf | None:
        """The one CPF written in `text` (masked or not), or None. Lost leading zeros are restored."""
        digits = re.sub(r"[^0-9]", "", text)
        if 9 <= len(digits) <= 11 and cpf_is_valid(digits.zfill(11)):
            return cls(digits.zfill(11))
        return None

    def __str__(self) -> str:
        return format_cpf(self.digits)


@dataclass(frozen=True, slots=True)
class Document:
    """What identifies a patient: a valid CPF, a well-formed RG, or both. Never neither."""

    cpf: str | None = None
    rg: str | None = None

    def __post_init__(self) -> None:
        if self.cpf is None and self.rg is None:
            raise ValueError("a document needs a cpf or an rg")
        if self.cpf is not None and not cpf_is_valid(self.cpf):
            raise ValueError("cpf with wrong check digits")
        if self.rg is not None and not (rg_is_valid(self.rg) or long_rg_is_valid(self.rg)):
            raise ValueError("rg is not 7 to 9 characters, nor up to 13 digits")

    def as_dict(self) -> dict[str, str | None]:
        """The stored shape: `{cpf, rg, cpf_formatted, rg_formatted}`, strings or None."""
        return {
            "cpf": self.cpf,
            "rg": self.rg,
            "cpf_formatted": None if self.cpf is None else format_cpf(self.cpf),
            "rg_formatted": None if self.rg is None else format_rg(self.rg),
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, object]) -> Document:
        """The inverse of `as_dict`; the formatted fields are derived again. Raises ValueError."""
        cpf, rg = stored.get("cpf"), stored.get("rg")
        if not isinstance(cpf, str | None) or not isinstance(rg, str | None):
            raise ValueError("cpf and rg are strings or null")
        return cls(cpf or None, rg or None)
