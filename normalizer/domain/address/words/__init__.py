"""The words and the towns of addresses, as data: `words.toml` and `towns.toml`, read and checked at the first import.

A line of `words.toml` is a word: how it is written out, its short spellings, and its roles. A role that holds for some
spellings only names them: `street-weak(al ala)`. The file is TOML, one entry a line; this reader takes only that form,
which is ten times as fast as a whole TOML parser and knows the line of everything it complains of. A table of
`towns.toml` is a town, or a state, whose addresses have ways of their own.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from normalizer.domain import gazetteer
from normalizer.domain.text import word_key
from normalizer.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


WORDS_FILE: Final = Path(__file__).parent / "words.toml"
_ENTRY: Final = re.compile(r'("[^"]+"|[\w-]+) = \{ (?:short = "([^"]*)", )?roles = "([^"]*)" \}')
_ROLE: Final = re.compile(r'([\w.-]+) = "([^"]+)"')
_USE: Final = re.compile(r"([\w.-]+)(?:\(([^()]*)\))?")
_FIX_WORD: Final = "Veja docs/regras-de-endereco.md, «Uma palavra nova»."


@dataclass(frozen=True, slots=True)
class Word:
    """One word: written out, the spellings it has (folded, its own first), and the spellings that have each role."""

    long: str
    spellings: tuple[str, ...]
    roles: Mapping[str, tuple[str, ...]]
    line: int


class Words:
    """All words of a file, looked up by role."""

    def __init__(self, words: tuple[Word, ...], roles: Mapping[str, str]) -> None:
        self.all, self.roles = words, roles
        self._by_role: dict[str, list[tuple[str, str]]] = {role: [] for role in roles}
        for word in words:
            for role, spellings in word.roles.items():
                self._by_role[role].extend((spelling, word.long) for spelling in spellings)

    def keys(self, *roles: str) -> frozenset[str]:
        """Return every spelling that has one of the roles."""
        return frozenset(spelling for role in roles for spelling, _ in self._by_role[role])

    def table(self, *roles: str) -> dict[str, str]:
        """Return {spelling: the word written out} of the roles; of two words with one spelling, the later one."""
        return {spelling: long for role in roles for spelling, long in self._by_role[role]}

    def meanings(self, role: str) -> dict[str, tuple[str, ...]]:
        """Return {spelling: every word it may stand for, folded} of a role, without the words' own spellings."""
        found: dict[str, list[str]] = {}
        for spelling, long in self._by_role[role]:
            if spelling != (key := phrase_key(long)):
                found.setdefault(spelling, []).append(key)
        return {spelling: tuple(longs) for spelling, longs in found.items()}

    def longs(self, role: str) -> frozenset[str]:
        """Return the words of a role, written out."""
        return frozenset(long for _, long in self._by_role[role])

    def spellings(self, role: str) -> frozenset[str]:
        """Return every spelling of a role as it is typed in small letters, with its accents and without."""
        written = {long.lower() for spelling, long in self._by_role[role] if spelling == phrase_key(long)}
        return self.keys(role) | written

    def the(self, role: str) -> str:
        """Return the one word of a role, written out."""
        (long,) = self.longs(role)
        return long

    def fields(self, prefix: str) -> dict[str, str]:
        """Return {spelling: what stands behind the dot} of the roles that begin with `prefix` and a dot."""
        return {
            spelling: role.partition(".")[2]
            for role, pairs in self._by_role.items()
            if role.startswith(f"{prefix}.")
            for spelling, _ in pairs
        }

    def having(self, key: str) -> list[Word]:
        """Return the words that may be spelled `key`."""
        return [word for word in self.all if key in word.spellings]


def phrase_key(text: str) -> str:
    """Return the folded words of a phrase, joined by blanks, as `Tokens.phrase` gives them."""
    return " ".join(word_key(word) for word in text.split())


def load_words(file: Path = WORDS_FILE) -> Words:
    """Read and check a file of words.

    Raises Misconfigured, which names file and line and says what is wrong, for the first bad entry.
    """
    roles: dict[str, str] = {}
    words: dict[str, Word] = {}
    section = ""
    for number, line in enumerate(file.read_text("utf-8").splitlines(), start=1):
        where = f"{file.name}, linha {number}"
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            section = line
        elif section == "[roles]":
            role, meaning = _matched(_ROLE, line, where, 'papel = "o que significa"').groups()
            if role in roles:
                raise _wrong(where, f"o papel «{role}» já foi descrito")
            roles[role] = meaning
        else:
            word = _word(line, number, where, roles)
            if word.long in words:
                raise _wrong(where, f"«{word.long}» já está na linha {words[word.long].line}")
            words[word.long] = word
    return Words(tuple(words.values()), roles)


def _word(line: str, number: int, where: str, roles: Mapping[str, str]) -> Word:
    entry = _matched(_ENTRY, line, where, 'Palavra = { short = "pal", roles = "papel, papel(pal)" }')
    long, short, uses = entry[1].strip('"'), (entry[2] or "").split(), entry[3]
    spellings = (phrase_key(long), *short)
    for spelling in short:
        if spelling != word_key(spelling):
            raise _wrong(where, f"«{spelling}» deve estar em minúsculas e sem acento")
    if len(set(spellings)) != len(spellings):
        raise _wrong(where, f"uma forma de «{long}» está repetida")
    return Word(long, spellings, dict(_uses(uses, spellings, where, roles)), number)


def _uses(
    uses: str, spellings: tuple[str, ...], where: str, roles: Mapping[str, str]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    seen: set[str] = set()
    for use in uses.split(", "):
        known = (use, None) if use in roles else None  # most have no bracket
        role, some = known or _matched(_USE, use, where, "papel ou papel(forma forma)").groups()
        if role not in roles:
            raise _wrong(where, f"papel desconhecido «{role}»")
        if role in seen:
            raise _wrong(where, f"o papel «{role}» está repetido")
        seen.add(role)
        named = tuple(some.split()) if some is not None else spellings
        for spelling in named:
            if spelling not in spellings:
                raise _wrong(where, f"«{spelling}», no papel «{role}», não é uma forma da palavra")
        yield role, named


def _matched(form: re.Pattern[str], text: str, where: str, expected: str) -> re.Match[str]:
    found = form.fullmatch(text.strip())
    if found is None:
        raise _wrong(where, f"não entendi «{text.strip()[:80]}»; esperado: {expected}")
    return found


def _wrong(where: str, problem: str, fix: str = _FIX_WORD) -> Misconfigured:
    return Misconfigured(f"{where}: {problem}.", fix=fix)


WORDS: Final = load_words()


# -- towns and states whose addresses have ways of their own ----------------------------------------------------------

TOWNS_FILE: Final = Path(__file__).parent / "towns.toml"
_FIX_TOWN: Final = "Veja docs/regras-de-endereco.md, «Uma cidade com jeito próprio»."
_LISTS: Final = ("capitals", "capital_ceps")


@dataclass(frozen=True, slots=True)
class Town:
    """How addresses are written there; the defaults are how they are written elsewhere."""

    codes: frozenset[str] = frozenset()
    inner: frozenset[str] = frozenset()
    opening_quadra: bool = False
    sided_quadra: bool = False
    inner_streets: bool = False
    untyped_streets: bool = True
    lettered_streets: bool = False
    block_numbers: bool = False


_FORMS: Final = {field.name: type(field.default) for field in fields(Town)}


def load_towns(file: Path = TOWNS_FILE, *, check_cities: bool = True) -> dict[str, Any]:
    """Read and check a file of towns: {"UF" or "UF/City": Town}, and its two lists as they stand.

    `check_cities` reads the whole gazetteer, which the import of this module does not wait for. Raises Misconfigured,
    which names file and line and says what is wrong.
    """
    text = file.read_text("utf-8")
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _wrong(file.name, str(error), _FIX_TOWN) from error
    found: dict[str, Any] = {name: tables.pop(name, {}) for name in _LISTS}
    for place, ways in tables.items():
        heads = (f"[{place}]", f'["{place}"]')
        line = next((number for number, line in enumerate(text.splitlines(), start=1) if line.strip() in heads), 0)
        where, (uf, _, city) = f"{file.name}, linha {line}", place.partition("/")
        if uf not in gazetteer.UF_NAMES:
            raise _wrong(where, f"«{uf}» não é uma UF", _FIX_TOWN)
        if check_cities and city and gazetteer.municipalities(gazetteer.name_key(city)).get(uf) != city:
            raise _wrong(where, f"«{city}» não é um município de {uf}, ou não se escreve assim", _FIX_TOWN)
        found[place] = Town(**_ways({**tables.get(place[:2], {}), **ways}, where))
    return found


def _ways(ways: Mapping[str, Any], where: str) -> dict[str, Any]:
    for name, value in ways.items():
        if name not in _FORMS:
            raise _wrong(where, f"«{name}» é desconhecido", _FIX_TOWN)
        form, said = (bool, "«true» ou «false»") if _FORMS[name] is bool else (str, "um texto: «palavra palavra»")
        if not isinstance(value, form):
            raise _wrong(where, f"«{name}» deve ser {said}", _FIX_TOWN)
    return {name: value if isinstance(value, bool) else frozenset(value.split()) for name, value in ways.items()}


_ALL: Final = load_towns(check_cities=False)
_TOWNS: Final = {place: town for place, town in _ALL.items() if isinstance(town, Town)}
_ELSEWHERE: Final = Town()
ALL_CODES: Final = frozenset[str]().union(*(town.codes for town in _TOWNS.values()))
# Codes that are continued by others, "ARSE 72 QI 5", and what continues them.
CONTINUED: Final = frozenset[str]().union(*(town.codes for town in _TOWNS.values() if town.inner))
INNER: Final = frozenset[str]().union(*(town.inner for town in _TOWNS.values()))

# Capitals that are the city where a text ends with their name, by its key; nicknames that are nothing else.
PLAIN_CAPITALS: Final = {
    gazetteer.name_key(gazetteer.CAPITALS[uf]): uf for uf in _ALL["capitals"].get("plain", "").split()
}
PLAIN_NICKNAMES: Final = frozenset(_ALL["capitals"].get("nicknames", ()))
# First three digits of CEPs that belong to a capital alone, by UF.
_CAPITAL_CEPS: Final = {
    uf: [tuple(map(int, span.split("-"))) for span in spans.split()] for uf, spans in _ALL["capital_ceps"].items()
}
# States whose capital has their name: "…, São Paulo" may be either.
NAMESAKES: Final = frozenset(uf for uf, name in gazetteer.UF_NAMES.items() if gazetteer.CAPITALS[uf] == name)


@lru_cache(maxsize=8_192)
def ways_of(uf: str, city: str) -> Town:
    """Return the ways of a city, those of its state where it has none of its own."""
    return _TOWNS.get(f"{uf}/{city}") or _TOWNS.get(uf, _ELSEWHERE)


def in_capital(uf: str, cep: str | None) -> bool | None:
    """Say whether a CEP lies in the capital of `uf`; None where there is none or the ranges do not tell."""
    spans = _CAPITAL_CEPS.get(uf)
    if spans is None or not cep:
        return None
    prefix = int(cep[:3])
    return any(first <= prefix <= last for first, last in spans)


def coded_capital(key: str, first: str) -> str | None:
    """Return the state whose capital is written `key` and whose codes, of three letters or more, open the text."""
    for place, ways in _TOWNS.items():
        capital = gazetteer.name_key(gazetteer.CAPITALS[place[:2]])
        if key == capital and len(first) > 2 and first in ways.codes:
            return place[:2]
    return None
