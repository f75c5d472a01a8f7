"""The text of an address as words and numbers with what separates them: what rules and grounding share.

A cell is split into the addresses it holds, an address into tokens; a token's mark says what explains it. A separator
is kept as the strength of the gap before a token: an address has no grammar, but people separate fields harder than
they separate words.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from normalizer.domain.address import lexicon as lx
from normalizer.domain.text import clean, word_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normalizer.domain.address.places import State
    from normalizer.domain.address.units import Unit


# -- the addresses of a cell: formulas, an old address, a second one --------------------------------------------------


def _any(words: frozenset[str]) -> str:
    """Return the pattern of any of the words, the longest first; blanks of a phrase may be many."""
    longest_first = sorted(words, key=lambda word: (-len(word), word))
    return "|".join(re.escape(word).replace(r"\ ", r"\s+") for word in longest_first)


# Where one address ends and the next begins. Alternatives are read apart; the first counts.
_SPLIT: Final = re.compile(
    rf"//|\b{lx.OR}\b(?=\s+(?:{_any(lx.AFTER_OR)})\b)"
    rf"|\b(?:(?:{_any(lx.ADDRESS_LABELS)})\.?\s{{1,3}})?(?:{_any(lx.ADDRESS_KINDS)})\s{{0,3}}:",
    re.IGNORECASE,
)
_MARKER: Final = re.compile(rf"\A(?:{_SPLIT.pattern})", re.IGNORECASE)
_OR: Final = f" {lx.OR} "
_OLD: Final = re.compile(rf"\b(?:{_any(lx.OLD_ADDRESS)})\b", re.IGNORECASE)
_FORMULA: Final = re.compile(r"=\s*(?:CONCATENAR|CONCATENATE|CONCAT)\s*\(", re.IGNORECASE)


def alternatives(text: str) -> list[str]:
    """Return the cleaned addresses a cell offers, the one to use first; those said to be old are left out."""
    cleaned = clean(text)
    if cleaned.startswith("="):
        cleaned = _FORMULA.sub("", cleaned, count=1)
    if ":" not in cleaned and "//" not in cleaned and _OR not in cleaned.lower():
        return [cleaned]  # nothing that could part it
    edges = [0, *(cut.start() for cut in _SPLIT.finditer(cleaned)), len(cleaned)]
    parts = [cleaned[start:end].strip() for start, end in pairwise(edges)]
    kept = [_MARKER.sub("", part).strip() for part in parts if not _OLD.search(part)]
    return list(filter(None, kept)) or [cleaned]


# -- marks: one a token, so that no part of a text is claimed by two fields -------------------------------------------

FREE: Final = 0  # not explained yet
LABEL: Final = 1  # announces a field
DROPPED: Final = 2  # explained, but no part of the address
POSTCODE: Final = 3
STATE: Final = 4
CITY: Final = 5
STREET: Final = 6
NUMBER: Final = 7
UNIT: Final = 8  # a part of the complement
DISTRICT: Final = 9


# -- tokens -----------------------------------------------------------------------------------------------------------

# Gap before a token, from weakest to strongest. The first token of a text has HARD.
GLUED: Final = -1  # "337ap52"
BLANK: Final = 0
HYPHEN: Final = 1  # "SC-401", "Garças-MT"
SLASH: Final = 2  # "67/203", "Barueri/SP"
HARD: Final = 3  # comma, semicolon, spaced dash, bracket, colon, end of a sentence

# Kinds of token.
WORD: Final = 0
NUM: Final = 1
CEP: Final = 2  # eight digits in one of the spellings of a CEP
PHONE: Final = 3
NOISE: Final = 4  # e-mail, date, time, web address

# A text longer than this is no address with notes but a document; refused before any rule runs.
MAX_CHARS: Final = 4_000

_PHONE: Final = (
    r"(?P<PHONE>(?:\+\s?55\s?)?\(\s?0?\d{2}\s?\)\s?9?[ .]?\d{4}[-. ]?\d{4}(?!\d)"
    r"|\d{2}[ -]9\d{4}[- ]?\d{4}(?!\d)|\d{2} \d{4}-\d{4}(?!\d)|9\d{4}-\d{4}(?!\d)|\d{4}-\d{4}(?!\d)|\d{10,}(?!\d))"
)
_DATE: Final = r"\d{1,2}/\d{1,2}/\d{2,4}(?!\d)|\d{1,2}:\d{2}(?!\d)|\d{1,2} ?[hH](?:\d{2}|s|rs)?(?!\w)"
_LINK: Final = r"(?:https?://|www\.)\S{1,300}"
_MAIL: Final = r"[\w.+-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,30}){0,5}"
_CEP: Final = r"(?P<CEP>\d{2}\.?\d{3}-\d{3}(?!\d)|\d{5}\.\d{3}(?!\d)|\d{2}\.\d{3}\.?\d{3}(?!\d)|\d{8}(?!\d))"
_NUM: Final = (  # "12,5" only behind "km": elsewhere a comma separates fields
    r"(?P<NUMBER>(?:(?:(?<=[kK][mM] )|(?<=[kK][mM]))\d{1,4},\d(?!\d)|\d{1,3}(?:\.\d{3}){1,2}(?!\d)|\d+)"
    rf"(?:[ºª°]|[oOaA](?=\.? ?(?i:{'|'.join(sorted(lx.FLOORS | lx.COUNTED_TYPES))})\b))?)"
)
_WORD: Final = r"(?P<WORD>[^\W\d_]+(?:['’´`][^\W\d_]+)*°?)"
# Words and separators are not tried against the forms of numbers: all of those begin with a digit, "+" or "(".
_NUMERIC: Final = rf"(?=[\d+(])(?:{_PHONE}|(?P<NOISE>{_DATE})|{_CEP}|{_NUM})"
_LEX: Final = re.compile("|".join([_NUMERIC, f"(?P<LINK>{_LINK})", _WORD]))
_LEX_WITH_MAIL: Final = re.compile("|".join([_PHONE, f"(?P<NOISE>{_DATE}|{_LINK}|{_MAIL})", _CEP, _NUM, _WORD]))
_KIND: Final = {"WORD": WORD, "NUMBER": NUM, "CEP": CEP, "PHONE": PHONE, "NOISE": NOISE, "LINK": NOISE}

_EXCEL_FLOAT: Final = re.compile(r"(?<=\d)\.0(?![\d])")
_GLUED_WORDS: Final = "|".join(sorted({way for word in lx.GLUED_TYPES for way in (word.title(), word.upper())}))
_GLUED_TYPE: Final = re.compile(rf"\b({_GLUED_WORDS})(?=[A-ZÀ-Ý][a-zà-ÿ])")
_INNER_CAPITAL: Final = re.compile(r"[A-Za-zÀ-ÿ][A-ZÀ-Ý][a-zà-ÿ]")  # what both ways of glueing words leave
_CAMEL: Final = re.compile(r"(?<=[a-zà-ÿ]{2})(?=[A-ZÀ-Ý][a-zà-ÿ]{2})")
_DOTTED_CEP: Final = re.compile(r"\bC\. ?E\. ?P\b\.?", re.IGNORECASE)
_WIDE_SLASH: Final = re.compile(r"(?<=\d) / (?=\d)")  # "1520 / 702" is a flat, as "1520/702" is
_DOTTED_SIGN: Final = re.compile(r"(?<=[^\W_])\.(?=[ºª°])")  # "n.º 12", "Prof.ª", "3.º andar"
_DOUBLED: Final = re.compile("//|--")
_HARD_CHARS: Final = frozenset(',;|()[]{}<>:"–—•=!?\\')
_TRAILING_TYPES: Final = lx.STREET_TYPES.keys() - lx.LAST_RESORT_TYPES
_RAISED: Final = "º°"
_NO_DIGITS: Final = re.compile("[^0-9,]")

# What stands between two tokens: gap, does a full stop, does a colon (or equals sign) follow the first one.
_Separation = tuple[int, bool, bool]
_separations: dict[str, _Separation] = {}


def _separation(separator: str) -> _Separation:
    known = (_measure(separator), separator[:1] == ".", ":" in separator or "=" in separator)
    if len(_separations) < 4_096 and len(separator) <= 8:
        _separations[separator] = known
    return known


def _measure(separator: str) -> int:
    if not separator.strip():
        return BLANK if separator else GLUED
    if not _HARD_CHARS.isdisjoint(separator) or _DOUBLED.search(separator):
        return HARD
    if "-" in separator:
        return HYPHEN if separator in {"-", ".-"} else HARD
    if "/" in separator:
        return HARD if separator.startswith(" ") and separator.endswith(" ") else SLASH
    return BLANK


@lru_cache(maxsize=8_192)
def _word_key(word: str) -> str:
    key = word_key(word)
    return lx.RAISED.get(key, key) if word[-1] in _RAISED else key  # "Stº", "Bº"


class Tokens:
    """The tokens of a cleaned text, as parallel lists (reading thousands of texts a second forbids objects)."""

    __slots__ = (
        "_edges", "colons", "dots", "gaps", "keys", "kinds", "parens", "size", "starts", "text", "vocabulary", "words",
    )  # fmt: skip

    def __init__(self, cleaned: str) -> None:
        """Read `cleaned` (see `text.clean`), undoing Excel's ".0" and words glued to their street type."""
        self._edges: tuple[list[int], list[int]] | None = None
        self.text = text = _unglue(cleaned)
        self.words: list[str] = []
        self.keys: list[str] = []
        self.kinds: list[int] = []
        self.gaps: list[int] = []
        self.dots: list[bool] = []  # a full stop follows
        self.colons: list[bool] = []  # a colon (or equals sign) follows
        self.starts: list[int] = []
        words, keys, kinds, gaps, starts = self.words, self.keys, self.kinds, self.gaps, self.starts
        dots, colons, known = self.dots, self.colons, _separations
        end = 0
        lexer = _LEX_WITH_MAIL if "@" in text else _LEX
        for match in lexer.finditer(text):  # the hot loop of the whole package
            start, stop = match.span()
            separator = text[end:start]
            gap, dot, colon = known.get(separator) or _separation(separator)
            kind = _KIND[match.lastgroup or "WORD"]
            word = match[0]
            key = _word_key(word) if kind == WORD else word if word.isdecimal() else _NO_DIGITS.sub("", word)
            if words:
                dots.append(dot)
                colons.append(colon)
                if dot and gap == BLANK:
                    gap = self._behind_full_stop(kind, key, separator)
                elif kinds[-1] == CEP:
                    gap = HARD  # it ends a field
                elif kinds[-1] == NUM and separator == "- " and key in lx.FLOORS:
                    gap = BLANK  # "1- SUBSOLO"
            words.append(word)
            kinds.append(kind)
            gaps.append(gap)
            keys.append(key)
            starts.append(start)
            end = stop
        self._close(text[end:])

    def _close(self, rest: str) -> None:
        """Note what stands behind the last token, and what of the text's words is in brackets."""
        self.size = len(self.words)
        self.vocabulary = frozenset(self.keys)  # what no word of the text can set off need not be looked for
        if self.size:
            _, dot, colon = _separation(rest)
            self.dots.append(dot)
            self.colons.append(colon)
            self.gaps[0] = HARD
        self.parens = self._bracketed() if "(" in self.text else [False] * self.size

    def _behind_full_stop(self, kind: int, key: str, separator: str) -> int:
        """Return the gap behind a full stop: HARD where it ends a sentence, not an abbreviation or an ordinal."""
        before = self.keys[-1]
        if self.kinds[-1] != WORD:
            if key in lx.FLOORS:
                return BLANK  # "4. andar"
            return HYPHEN if kind == NUM and len(separator) == 1 else HARD  # "lote 3.8"
        if before in _TRAILING_TYPES:
            ends = self._trails_number()  # "…, 121 RUA. VILA …", and "Praça. X"
        elif len(before) == 1:
            ends = len(key) > 1 and len(self.keys) > 1 and self.keys[-2] in lx.UNIT_WORDS  # "BLOCO A. CENTRO"
        else:
            ends = len(before) > 4 and before not in lx.LONG_ABBREVIATIONS
        return HARD if ends else BLANK

    def _trails_number(self) -> bool:
        """Does the last token stand right behind a house number, or that there is none: "121 RUA.", "SN RUA."."""
        if len(self.kinds) < 3 or self.gaps[-1] == HARD:
            return False
        return self.kinds[-2] == NUM or self.keys[-2] in lx.NO_NUMBERS or self.keys[-2] in lx.NUMBER_WORDS

    def _bracketed(self) -> list[bool]:
        """Say of each token whether it stands in brackets."""
        inside, at = False, 0
        found: list[bool] = []
        for start in self.starts:
            separator = self.text[at:start]
            if "(" in separator or ")" in separator:
                inside = separator.rfind("(") > separator.rfind(")")
            found.append(inside)
            at = start
        return found

    def key(self, at: int) -> str:
        """Return the key of the token at `at`, or "" where there is none."""
        return self.keys[at] if 0 <= at < self.size else ""

    def joint(self, at: int) -> str:
        """Return how the token at `at` is joined to the one before it where both are written in one value."""
        if self.gaps[at] == HYPHEN:
            return "." if self.dots[at - 1] else "-"
        return {GLUED: "", SLASH: "/", HARD: ", "}.get(self.gaps[at], " ")

    def is_number(self, at: int) -> bool:
        """Is there a number at `at`."""
        return 0 <= at < self.size and self.kinds[at] == NUM

    def phrase(self, start: int, end: int) -> str:
        """Return the folded words of [start, end), joined by blanks."""
        return " ".join(self.keys[start:end])

    def hard_end(self, at: int) -> int:
        """Return the index after the last token of the field that `at` stands in."""
        return self._field_edges()[1][at]

    def hard_start(self, at: int) -> int:
        """Return the index of the first token of the field that `at` stands in."""
        return self._field_edges()[0][at]

    def fields(self) -> Iterator[tuple[int, int]]:
        """Yield where each field begins and ends."""
        at = 0
        while at < self.size:
            yield at, self.hard_end(at)
            at = self.hard_end(at)

    def _field_edges(self) -> tuple[list[int], list[int]]:
        """Return where the field of each token begins and ends, found once: a field may be as long as its text."""
        if self._edges is None:
            starts: list[int] = []
            for at, gap in enumerate(self.gaps):
                starts.append(at if gap == HARD or not at else starts[-1])
            ends = [self.size] * self.size
            for at in range(self.size - 2, -1, -1):
                ends[at] = at + 1 if self.gaps[at + 1] == HARD else ends[at + 1]
            self._edges = (starts, ends)
        return self._edges


# What is put right, and what by; a text without a sign of any is not searched for each.
_REPAIRS: Final = ((_EXCEL_FLOAT, ""), (_DOTTED_CEP, "CEP"), (_WIDE_SLASH, "/"), (_DOTTED_SIGN, ""))
_DAMAGED: Final = re.compile(r"\.(?:0| ?[Pp]|[ºª°])| / ")


def _unglue(text: str) -> str:
    if _DAMAGED.search(text):
        for pattern, replacement in _REPAIRS:
            text = pattern.sub(replacement, text)
    if _INNER_CAPITAL.search(text):
        text = _CAMEL.sub(" ", _GLUED_TYPE.sub(r"\1 ", text))
    return text


# -- evidence ---------------------------------------------------------------------------------------------------------


class Evidence(Tokens):
    """The tokens of one text with what explains them before any reading is tried; `passes.gather` fills it."""

    __slots__ = (
        "cep_ufs", "ceps", "city", "labelled", "marks", "no_number", "ordered", "slot", "states", "trailing_type",
        "units",
    )  # fmt: skip

    def __init__(self, cleaned: str) -> None:
        """Read the tokens of `cleaned`; nothing is marked yet."""
        super().__init__(cleaned)
        self.marks = bytearray(self.size)
        self.ceps: list[str] = []  # eight digits each
        self.cep_ufs: list[str] = []  # the state of each of them
        self.labelled: dict[int, str] = {}  # first token of a labelled value → field
        self.no_number = -1  # where "S/N" ends
        self.ordered = False  # the text gives orders
        self.states: list[State] | None = None  # what `places.states` found, kept
        self.slot = (0, 0)  # the field right before "CITY - UF": where a register prints the district
        self.city = (0, 0)  # the whole field before the last sigla, if it is a municipality of that state
        self.trailing_type: str | None = None  # the street's type that stands behind its number: "FULANO, 121 RUA."
        self.units: list[Unit] = []

    def in_slot(self, at: int) -> bool:
        """Does the token stand where a register prints the district."""
        return self.slot[0] <= at < self.slot[1]

    def in_city(self, at: int) -> bool:
        """Does the token stand in a field that is a municipality right before its state."""
        return self.city[0] <= at < self.city[1]

    def free(self, at: int) -> bool:
        """Is the token there and still unexplained."""
        return 0 <= at < self.size and not self.marks[at]

    def mark(self, start: int, end: int, kind: int) -> None:
        """Explain the tokens of [start, end) that are still free."""
        marks = self.marks
        for at in range(start, min(end, len(marks))):
            if marks[at] == FREE:
                marks[at] = kind

    def numeric(self, at: int) -> bool:
        """Is a free number there."""
        return self.free(at) and self.is_number(at)
