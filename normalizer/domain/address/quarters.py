"""What is left once street, number, complement, city and CEP are known, and whether it can be a quarter's name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from normalizer.domain.address import lexicon as lx
from normalizer.domain.address.marks import FREE
from normalizer.domain.address.streets import at_street, date_follows
from normalizer.domain.address.tokens import HARD, NUM, SLASH, WORD

if TYPE_CHECKING:
    from normalizer.domain.address.tokens import Tokens

_LONGEST: Final = 7  # words
_BREAKS_OFF: Final = lx.PREPOSITIONS - {"e", "a"}  # the last word of a name that is not whole
_VOWELS: Final = frozenset("aeiouy")
# Before "Centro" in one quarter's name; any other word there is the end of another field.
_BEFORE_CENTRE: Final = frozenset({"novo", "bairro", "setor", "zona", "cidade", "conjunto", "vila", "jardim", "b"})
# What opens a complement, even one that no rule could read ("sala verde").
_PART_HEADS: Final = frozenset(
    {"apartamento", "apto", "bloco", "sala", "loja", "fundos", "frente", "andar", "sobrado", "kitnet", "vaga"}
)
_PART_TAILS: Final = frozenset(
    {"fundos", "fds", "terreo", "sobrado", "frente", "cobertura", "kitnet", "edicula", "casa"}
)
_SECOND: Final = frozenset({"jardim", "jd", "vila", "vl", "parque", "pq", "residencial", "loteamento"})
_BEFORE_SECOND: Final = lx.PREPOSITIONS | lx.STRONG_STARTERS | {"novo", "nova", "habitacional", "cidade"}
_NO_NAMES: Final = frozenset({"lado", "moro", "mora", "resido", "reside"})  # open a remark
_CITY_QUARTERS: Final = frozenset({"nova", "alta", "baixa", "velha"})  # "Nova Cidade"


def chunks(tokens: Tokens, marks: bytearray) -> list[tuple[int, int]]:
    """Return the runs of tokens that nothing explains yet, cut where fields are separated."""
    found: list[tuple[int, int]] = []
    at, size = 0, tokens.size
    while at < size:
        if marks[at] != FREE:
            at += 1
            continue
        end = at + 1
        while end < size and marks[end] == FREE and tokens.gaps[end] not in (HARD, SLASH):
            end += 1
        found.append((at, end))
        at = end
    return found


def may_be_quarter(tokens: Tokens, start: int, end: int, *, sector: bool) -> bool:
    """Can the tokens [start, end) be the name of a quarter.

    `sector`: the street is a sector of Brasília, where "Rua 310" behind it is no quarter.
    """
    keys = tokens.keys
    if end - start > _LONGEST or keys[end - 1] in _BREAKS_OFF:
        return False
    if keys[start] in lx.PREPOSITIONS and not _named_with_article(tokens, start, end):
        return False
    if end - start == 1 and not _may_stand_alone(tokens, start):
        return False
    if end - start > 1 and keys[end - 1] == "cidade" and keys[end - 2] not in _CITY_QUARTERS:
        return False
    if _opens_other_field(tokens, start, sector=sector) or _holds_other_field(keys, start, end):
        return False
    letters = sum(
        len(lx.DISTRICT_WORDS.get(keys[at], keys[at])) for at in range(start, end) if tokens.kinds[at] == WORD
    )
    short = end - start == 1 and tokens.words[start].lower() == "sé"  # the shortest quarter there is
    return (letters > 2 or short) and all(_belongs(tokens, at, start, end) for at in range(start, end))


def _named_with_article(tokens: Tokens, start: int, end: int) -> bool:
    """Is the quarter called "da Paz", "dos Pires": the whole field, or all that a label announces."""
    opens = tokens.gaps[start] == HARD or tokens.keys[start - 1] == "bairro"
    closes = end == tokens.size or tokens.gaps[end] == HARD
    return tokens.keys[start] in {"da", "do", "das", "dos"} and end - start > 1 and opens and closes


def _may_stand_alone(tokens: Tokens, at: int) -> bool:
    """May the one word be a whole quarter: no "Jardim", no "Casa", and no "Balneário" that runs into "Camboriú"."""
    key = tokens.keys[at]
    runs_on = at + 1 < tokens.size and tokens.gaps[at + 1] != HARD
    return (
        key not in lx.GENERIC_QUARTERS
        and key not in _PART_HEADS
        and lx.UNIT_WORDS.get(key) not in lx.ALONE_UNITS
        and not (runs_on and key in {"balneario", "nova", "novo"})
    )


def closed_by_centre(keys: list[str], start: int, end: int) -> bool:
    """Does the quarter "Centro" end the name of a building, and is no part of it ("Edifício Novo Centro")."""
    return end - start > 2 and keys[end - 1] == "centro" and keys[end - 2] not in _BEFORE_CENTRE | lx.PREPOSITIONS


def _holds_other_field(keys: list[str], start: int, end: int) -> bool:
    """Is a part of the complement read into the quarter: "Sala Verde Centro", "Casa dos Fundos"."""
    if end - start == 1:
        return False
    between = keys[start] == "entre" and "e" in keys[start + 1 : end]  # two streets, and maybe a quarter behind them
    noted = not lx.NOTE_WORDS.isdisjoint(keys[start:end])
    if between or noted or keys[start] in _NO_NAMES or keys[end - 1] in _PART_TAILS:
        return True
    if keys[start] == "bairro" and not (end - start == 2 and keys[start + 1] in {"novo", "alto", "velho"}):
        return keys[start + 1] not in lx.PREPOSITIONS
    if keys[end - 1] == "centro" and keys[end - 2] not in _BEFORE_CENTRE:
        return True
    if keys[start] == "casa":  # "Casa Verde Alta" is a quarter, "casa verde Jardim Europa" more than one
        return keys[start + 1] in lx.PREPOSITIONS or (
            end - start > 2 and keys[start + 2] not in {"alta", "media", "baixa"}
        )
    return keys[start] in _PART_HEADS or _two_quarters(keys, start, end)


def _two_quarters(keys: list[str], start: int, end: int) -> bool:
    """Does a second quarter begin inside the first: "Jardim América Vila Nova"."""
    return keys[start] in lx.STRONG_STARTERS and any(
        keys[at] in _SECOND and keys[at - 1] not in _BEFORE_SECOND for at in range(start + 2, end - 1)
    )


def _opens_other_field(tokens: Tokens, start: int, *, sector: bool) -> bool:
    key = tokens.keys[start]
    if key in lx.REFERENCE_WORDS and key not in {"lado", "frente", "entre"}:
        return True
    return key in lx.STREET_TYPES and key not in lx.DISTRICT_WORDS and (len(key) < 4 or sector)


def _belongs(tokens: Tokens, at: int, start: int, end: int) -> bool:
    """Can the token stand in a quarter's name: a word that can be spoken or is listed, a short number at the end."""
    if tokens.kinds[at] == NUM:
        return end - start > 1 and len(tokens.keys[at]) <= 3 and (at == end - 1 or date_follows(tokens, at))
    return not (at > start and at_street(tokens, at)) and not _unreadable(tokens, at)


def _unreadable(tokens: Tokens, at: int) -> bool:
    """Is the word an abbreviation nobody listed ("bx"), or the letter of a unit left over?"""
    key = tokens.keys[at]
    if tokens.kinds[at] != WORD or key in lx.ROMAN or tokens.dots[at]:
        return False
    if len(key) == 1:
        return key not in {"e", "a", "o", "s", "n", "d"} and tokens.gaps[at] != HARD and tokens.kinds[at - 1] != WORD
    known = key in lx.DISTRICT_WORDS or key in lx.TITLES or key in lx.CITY_SHORTS
    return not known and _VOWELS.isdisjoint(key)
