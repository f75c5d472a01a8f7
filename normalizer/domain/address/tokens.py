"""A text as words and numbers with what separates them: the one reading that rules and grounding share.

A separator is kept as the strength of the gap before a token: an address has no grammar, but people separate fields
harder than they separate words.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from normalizer.domain.text import fold

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

_LEX: Final = re.compile(
    r"(?P<PHONE>(?:\+\s?55\s?)?\(\s?0?\d{2}\s?\)\s?9?[ .]?\d{4}[-. ]?\d{4}(?!\d)"
    r"|\d{2}[ -]9\d{4}[- ]?\d{4}(?!\d)|\d{2} \d{4}-\d{4}(?!\d)|9\d{4}-\d{4}(?!\d)|\d{4}-\d{4}(?!\d)|\d{10,}(?!\d))"
    r"|(?P<NOISE>\d{1,2}/\d{1,2}/\d{2,4}(?!\d)|\d{1,2}:\d{2}(?!\d)|\d{1,2} ?[hH](?:\d{2}|s|rs)?(?![\w])"
    r"|[\w.+-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,30}){0,5}|(?:https?://|www\.)\S{1,300})"
    r"|(?P<CEP>\d{2}\.?\d{3}-\d{3}(?!\d)|\d{2}\.\d{3}\.?\d{3}(?!\d)|\d{8}(?!\d))"
    r"|(?P<NUM>(?:\d{1,3}(?:\.\d{3}){1,2}(?!\d)|\d+)(?:[ºª°]|[oOaA](?= ?(?:andar|ANDAR|Andar)\b))?)"
    r"|(?P<WORD>[^\W\d_]+(?:['’´`][^\W\d_]+)*°?)"
)
_KIND: Final = {"WORD": WORD, "NUM": NUM, "CEP": CEP, "PHONE": PHONE, "NOISE": NOISE}

_EXCEL_FLOAT: Final = re.compile(r"(?<=\d)\.0(?![\d])")
_GLUED_TYPE: Final = re.compile(
    r"\b(Rua|Av|Avenida|Travessa|Alameda|Praça|Praca|Rodovia|Estrada|RUA|AVENIDA)(?=[A-ZÀ-Ý][a-zà-ÿ])"
)
_CAMEL: Final = re.compile(r"(?<=[a-zà-ÿ]{2})(?=[A-ZÀ-Ý][a-zà-ÿ]{2})")
_FOLDED: Final = str.maketrans("áàâãäéèêëíìîïóòôõöúùûüçñýÿ", "aaaaaeeeeiiiiooooouuuucnyy", "'’´`ºª°")
_HARD_CHARS: Final = frozenset(',;|()[]{}<>:"–—•=!?\\')
_LONG_ABBREVIATIONS: Final = frozenset(
    {"compl", "trav", "resid", "apart", "condom", "bairro", "jardim", "profa", "comte"}
)

_gaps: dict[str, int] = {}


def _gap(separator: str) -> int:
    """Return the strength of what stands between two tokens."""
    known = _gaps.get(separator)
    if known is None:
        known = _measure(separator)
        if len(_gaps) < 4_096 and len(separator) <= 8:
            _gaps[separator] = known
    return known


def _measure(separator: str) -> int:
    if not separator:
        return GLUED
    if any(char in _HARD_CHARS for char in separator) or "//" in separator or "--" in separator:
        return HARD
    if "-" in separator:
        return HYPHEN if separator in {"-", ".-"} else HARD
    if "/" in separator:
        return HARD if separator.startswith(" ") and separator.endswith(" ") else SLASH
    return BLANK


@lru_cache(maxsize=32_768)
def word_key(word: str) -> str:
    """Return the folded form words are compared in; apostrophes and ordinal signs dropped."""
    key = word.lower().translate(_FOLDED)
    return key if key.isascii() else fold(key)


class Tokens:
    """The tokens of a cleaned text, as parallel lists (reading thousands of texts a second forbids objects)."""

    __slots__ = ("colons", "dots", "ends", "gaps", "keys", "kinds", "parens", "size", "starts", "text", "words")

    def __init__(self, cleaned: str) -> None:
        """Read `cleaned` (see `text.clean`), undoing Excel's ".0" and words glued to their street type."""
        self.text = text = _unglue(cleaned)
        self.words: list[str] = []
        self.keys: list[str] = []
        self.kinds: list[int] = []
        self.gaps: list[int] = []
        self.dots: list[bool] = []  # a full stop follows
        self.colons: list[bool] = []  # a colon (or equals sign) follows
        self.parens: list[bool] = []  # stands in brackets
        self.starts: list[int] = []
        self.ends: list[int] = []
        end, depth = 0, 0
        has_parens = "(" in text
        for match in _LEX.finditer(text):
            start = match.start()
            separator = text[end:start]
            if has_parens:
                depth = 1 if separator.rfind("(") > separator.rfind(")") else 0 if ")" in separator else depth
            self._add(match, _gap(separator), separator, in_parens=depth > 0)
            end = match.end()
        self.size = len(self.words)
        if self.size:
            self._close(text[end:])
            self.gaps[0] = HARD

    def __len__(self) -> int:
        return len(self.words)

    def _add(self, match: re.Match[str], gap: int, separator: str, *, in_parens: bool) -> None:
        kind = _KIND[match.lastgroup or "WORD"]
        word = match.group()
        if kind == WORD:
            key = word_key(word)
        else:
            key = word if kind == NUM and word.isdecimal() else "".join(char for char in word if char in "0123456789")
        if self.words:
            self._close(separator)
            if gap == BLANK and separator[0] == "." and self._ends_sentence():
                gap = HARD
        self.words.append(word)
        self.keys.append(key)
        self.kinds.append(kind)
        self.gaps.append(gap)
        self.parens.append(in_parens)
        self.starts.append(match.start())
        self.ends.append(match.end())

    def _close(self, separator: str) -> None:
        self.dots.append(separator[:1] == ".")
        self.colons.append(":" in separator or "=" in separator)

    def _ends_sentence(self) -> bool:
        if self.kinds[-1] != WORD:
            return True
        key = self.keys[-1]
        return len(key) > 4 and key not in _LONG_ABBREVIATIONS

    def phrase(self, start: int, end: int) -> str:
        """Return the folded words of [start, end), joined by blanks."""
        return " ".join(self.keys[start:end])

    def hard_end(self, at: int) -> int:
        """Return the index after the last token of the field that `at` stands in."""
        gaps = self.gaps
        end, size = at + 1, self.size
        while end < size and gaps[end] != HARD:
            end += 1
        return end

    def hard_start(self, at: int) -> int:
        """Return the index of the first token of the field that `at` stands in."""
        while self.gaps[at] != HARD:
            at -= 1
        return at


def _unglue(text: str) -> str:
    if ".0" in text:
        text = _EXCEL_FLOAT.sub("", text)
    if not (text.isupper() or text.islower()):
        text = _CAMEL.sub(" ", _GLUED_TYPE.sub(r"\1 ", text))
    return text
