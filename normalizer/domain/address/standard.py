"""The normalized address as it is stored in `endereco_normalizado`, and the one written form of each of its fields.

Rules and model answers go through the same functions, so that both look the same: abbreviations spelled out, proper
case, accents back, codes in capitals. Nothing here changes a letter of a word: abbreviations become what the closed
tables of `lexicon` say, accents come from the gazetteer's own words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Final

from normalizer.domain import gazetteer
from normalizer.domain.address import lexicon as lx
from normalizer.domain.address.tokens import GLUED, HYPHEN, NUM, SLASH, WORD, Tokens
from normalizer.domain.text import word_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


FIELDS: Final = ("rua", "numero", "complemento", "bairro", "cidade", "estado", "cep")


@dataclass(frozen=True, slots=True)
class Address:
    """Street, city and state are the minimum; everything else may be absent (None, never an empty string)."""

    rua: str
    cidade: str
    estado: str
    numero: str | None = None
    complemento: str | None = None
    bairro: str | None = None
    cep: str | None = None

    def as_dict(self) -> dict[str, str | None]:
        """Return the seven stored fields, in the stored order."""
        return {name: getattr(self, name) for name in FIELDS}

    @classmethod
    def from_dict(cls, stored: Mapping[str, object]) -> Address:
        """Return the address of seven stored fields; empty strings count as absent.

        Raises ValueError when a field is neither string nor null, or when street, city or state is missing.
        """
        fields: dict[str, str | None] = {}
        for name in FIELDS:
            value = stored.get(name)
            if value is not None and not isinstance(value, str):
                raise ValueError(f"{name} must be a string or null")
            fields[name] = value or None
        rua, cidade, estado = fields.pop("rua"), fields.pop("cidade"), fields.pop("estado")
        if rua is None or cidade is None or estado is None:
            raise ValueError("rua, cidade and estado are required")
        return cls(rua=rua, cidade=cidade, estado=estado, **fields)


# -- written forms ----------------------------------------------------------------------------------------------------

ACCENTS_FILE: Final = gazetteer.MUNICIPALITIES_FILE.with_name("accents.txt")
_WORDS: Final = re.compile(r"[^\W\d_]+")
_JOINTS: Final = {GLUED: "", HYPHEN: "-", SLASH: "/"}
_HEADS: Final = lx.ESTATE_WORDS | lx.SHORT_HEADS
_LOWER: Final = lx.SMALL_WORDS | {"à"}
_VOWEL_SAINTS: Final = frozenset("aeiouh")
_LETTER_WORDS: Final = frozenset("eao")


@cache
def accents() -> dict[str, str]:
    """Return {folded word: the word with its accents}, capitalised; only words that have one accented spelling."""
    own = "\n".join(line for line in ACCENTS_FILE.read_text("utf-8").splitlines() if not line.startswith("#"))
    table = {word_key(word): word for word in _WORDS.findall(own)}
    for key, spellings in _spellings(own).items():
        first, *others = spellings
        if not others and not first.isascii() and key not in table and key not in lx.UNACCENTED:
            table[key] = first.capitalize()
    return table


def _spellings(own: str) -> dict[str, set[str]]:
    """Return {folded word: its spellings} of the municipalities' names and of our own list."""
    found: dict[str, set[str]] = {}
    names = (name for by_uf in gazetteer.municipality_names().values() for name in by_uf.values())
    for text in (*names, own):
        for word in _WORDS.findall(text):
            found.setdefault(word_key(word), set()).add(word.lower())
    return found


@lru_cache(maxsize=32_768)
def proper(word: str, *, first: bool = False) -> str:
    """Return one word in proper case with its accents; words typed in mixed case keep their capitals."""
    lowered = word.lower()
    key = word_key(word)
    if key in lx.ROMAN and (len(key) > 1 or key in lx.ROMAN_LETTERS):
        return word.upper()
    if lowered in _LOWER and not first:
        return lowered
    restored = accents().get(key)
    if restored is not None and _agree(lowered, restored.lower()):
        return restored
    return _capital(lowered) if word.islower() or word.isupper() or word.istitle() else word  # "McDonald" was meant


def _agree(typed: str, restored: str) -> bool:
    """Is every accent that was typed that of the restored word: "cristovão", but not "avó" for "avô"."""
    return typed.isascii() or all(a == b or a == word_key(b) for a, b in zip(typed, restored, strict=False))


def _capital(lowered: str) -> str:
    for mark in ("'", "’"):
        head, found, tail = lowered.partition(mark)
        if found:
            return (head.lower() if len(head) == 1 else head.capitalize()) + "'" + tail.capitalize()
    return lowered.capitalize()


def _title_at(tokens: Tokens, at: int, *, leads: bool) -> str | None:
    """Return what a title at `at` is short for, or None. `leads`: it stands right after the street type."""
    key = tokens.keys[at]
    if leads and key in lx.MARQUIS and tokens.key(at + 1) in lx.OF:
        return None if tokens.key(at + 2) in lx.SURNAMES else lx.MARQUIS[key]  # "Marques de Souza" is a family
    if tokens.dots[at]:
        return lx.TITLES.get(key)
    held = key in lx.DOTTED_TITLES or (key in lx.WEAK_TITLES and not leads)
    held = held or (key in lx.WORD_TITLES and tokens.key(at + 1) in lx.OF)  # the "Pé" of "Pé do Morro" is a word
    return None if held else lx.TITLES.get(key)


def _initial_at(tokens: Tokens, at: int, end: int) -> str | None:
    """Return what a short N., S. or D. stands for beside its neighbours ("N. Sra.", "S. José", "D. Pedro"), or None."""
    key = tokens.keys[at]
    following = tokens.keys[at + 1] if at + 1 < end and tokens.kinds[at + 1] == WORD else ""
    if key in lx.OUR_LADY:
        return _our_lady(key, following)
    if key in lx.DOM_INITIALS:
        return lx.DOM if following in lx.DOM_NAMES else lx.DONA if following in lx.DONA_NAMES else None
    if key not in lx.SAINT_INITIALS or len(following) < 3 or following in lx.PREPOSITIONS:
        return None
    masculine = lx.SAINT_BEFORE_VOWEL if following[0] in _VOWEL_SAINTS else lx.SAINT
    return lx.SAINT_FEMININE if following in lx.FEMININE_SAINTS else masculine


def _our_lady(key: str, following: str) -> str | None:
    """Return what N., Nsa. or Ns. stand for: "Nossa" before "Sra.", "Nossa Senhora" before a name."""
    if following in lx.LADY and key in lx.OUR_INITIALS:
        return lx.OUR
    return f"{lx.OUR} {lx.LADY_TITLE}" if following and len(key) > 1 else None


def render(tokens: Tokens, start: int, end: int, *, typed: bool, leads: bool = True) -> str:
    """Return the words of [start, end) written out as a name.

    `typed`: a type stands before it ("Rua" das Flores), so its first word may be a small one. `leads`: a short title
    may open it ("Pe." right after the street type).
    """
    parts: list[str] = []
    for at in range(start, end):
        written = _written(tokens, at, start, end, typed=typed, leads=leads)
        joint = _JOINTS.get(tokens.gaps[at]) if parts else None
        if joint is None or (not joint and NUM not in tokens.kinds[at - 1 : at + 1]):
            parts.append(written)
        else:
            parts[-1] += joint + written
    return " ".join(parts)


def _written(tokens: Tokens, at: int, start: int, end: int, *, typed: bool, leads: bool) -> str:
    word, key = tokens.words[at], tokens.keys[at]
    if tokens.kinds[at] != WORD:
        return word.replace("°", "º")
    if _is_code(tokens, at, start, end):
        return word.upper()
    if end - start == 1 and key in lx.STATE_STREETS:  # a street of that one word is called after the state
        return lx.STATE_STREETS[key]
    inner = None
    if at > start and key in lx.PLURAL_ARTICLES:  # "Todos os Santos"
        inner = key
    elif at > start and key in lx.LADY and tokens.keys[at - 1] in lx.OUR_WORDS:  # "N. Sra."
        inner = lx.LADY_TITLE
    elif at + 1 < end:
        inner = _title_at(tokens, at, leads=leads and at == start) or _initial_at(tokens, at, end)
    if inner is not None:
        return inner
    if _is_letter(tokens, at, start, end):
        return word.upper() + ("." if tokens.dots[at] and at + 1 < end else "")
    return proper(word, first=True) if at == start and not typed else proper(word)


def _is_letter(tokens: Tokens, at: int, start: int, end: int) -> bool:
    """Is it a letter of its own, and no word of one letter: "Rua A", "José M. Lisboa"."""
    key = tokens.keys[at]
    if len(key) != 1:
        return False
    return at + 1 == end or (key not in _LETTER_WORDS and (at == start or tokens.dots[at]))


def _is_code(tokens: Tokens, at: int, start: int, end: int) -> bool:
    """Is the word part of a code: up to three letters bound to a number, as in T-63, WE 73, 5-B."""
    key = tokens.keys[at]
    if len(key) > 3 or key in lx.PREPOSITIONS:
        return False
    after = at + 1 < end and tokens.kinds[at + 1] == NUM and (tokens.gaps[at + 1] in (GLUED, HYPHEN) or at == start)
    before = at > start and tokens.kinds[at - 1] == NUM and tokens.gaps[at] in (GLUED, HYPHEN)
    return after or before


def street(tokens: Tokens, kind: str, start: int, end: int) -> str:
    """Return the street: its type `kind` (spelled out, "" for sectors and quadras) and its name in [start, end)."""
    if not kind:
        return sector(tokens, start, end)
    return f"{kind} {render(tokens, start, end, typed=True)}".rstrip()


def road(tokens: Tokens, start: int, end: int) -> str:
    """Return a numbered road such as "BR-277": its prefix and number in [start, end)."""
    code = "-".join(word.upper() for word in tokens.words[start : start + 2])
    return " ".join([code, *(proper(word) for word in tokens.words[start + 2 : end])])


def sector(tokens: Tokens, start: int, end: int) -> str:
    """Return a sector or quadra of Brasília or Palmas ("SHIS QI 11", "Quadra 38"), codes in capitals."""
    parts: list[str] = []
    for at in range(start, end):
        gap = tokens.gaps[at]
        numbers = tokens.kinds[at] == NUM and at > start and tokens.kinds[at - 1] == NUM
        if numbers and gap in (HYPHEN, SLASH, GLUED):
            parts[-1] += ("/" if gap == SLASH else "-") + tokens.words[at].upper()
        else:
            word, key = tokens.words[at], tokens.keys[at]
            named = proper(word) if len(key) > 5 or key in lx.SECTOR_WORDS else word.upper()
            parts.append(lx.AREA_STREET if lx.UNIT_WORDS.get(key) == lx.AREA_STREET else named)
    return " ".join(parts)


def district(tokens: Tokens, start: int, end: int) -> str:
    """Return the district in [start, end), its Jd./Vl./Pq. written out."""
    head: list[str] = []
    at = start
    while at + 1 < end and (long := _district_word(tokens, at)) is not None:
        head.append(long)
        at += 1
        if long not in lx.CHAINED_DISTRICTS:
            break
    typed = bool(head) or tokens.keys[start] in lx.PREPOSITIONS  # "da Paz"
    return " ".join([*head, render(tokens, at, end, typed=typed, leads=not head)])


def _district_word(tokens: Tokens, at: int) -> str | None:
    key = tokens.keys[at]
    long = lx.DISTRICT_WORDS.get(key)
    return long if long is not None and key != word_key(long) else None


def unit(keyword: str, value: str) -> str:
    """Return one part of the complement, "Apartamento 12"."""
    return f"{keyword} {value}" if value else keyword


def named_unit(tokens: Tokens, start: int, end: int) -> str:
    """Return a building's or estate's name as a part of the complement."""
    at = start
    head: list[str] = []
    while at + 1 < end:
        key = tokens.keys[at]
        long = lx.BUILDING_WORDS.get(key) or (lx.DISTRICT_WORDS.get(key) if key in _HEADS else None)
        if long is None:
            break
        head.append(long)
        at += 1
    return " ".join([*head, render(tokens, at, end, typed=bool(head), leads=False)])


def joined(parts: Iterable[str]) -> str | None:
    """Return the parts of a complement joined as they are stored, or None when there is none."""
    return ", ".join(parts) or None


def number(digits: str) -> str | None:
    """Return the house number without separators and leading zeros; None for 0."""
    plain = digits if digits.isascii() and digits.isdecimal() else "".join(re.findall("[0-9]", digits))
    return plain.lstrip("0") or None


def cep(digits: str) -> str | None:
    """Return "NNNNN-NNN" of eight digits inside a Correios range, else None."""
    return f"{digits[:5]}-{digits[5:]}" if gazetteer.uf_of_cep(digits) else None
