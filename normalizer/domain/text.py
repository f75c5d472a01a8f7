"""Typed text, the damage of its journey undone: cleaned, canonical, folded, fingerprinted.

Every function is total (any `str`), pure, and linear in the length of the text.
"""

from __future__ import annotations

import hmac
import html
import re
import unicodedata
from functools import lru_cache
from typing import Final

_MAX_PASSES: Final = 6

# UTF-8 read as Latin-1 or Windows-1252: the bytes C2/C3 + continuation (accented letters, º, ª, °) and
# E2 80 xx (dashes, quotes, bullet). Nothing else is touched, so real text never changes letters.
_CP1252: Final = "€\u0081‚ƒ„…†‡ˆ‰Š‹Œ\u008dŽ\u008f\u0090‘’“”•–—˜™š›œ\u009džŸ"
_BYTE: Final = {char: 0x80 + i for i, char in enumerate(_CP1252)} | {chr(b): b for b in range(0x80, 0xC0)}
_TAIL: Final = re.escape("".join(_BYTE))
_MOJIBAKE: Final = re.compile(f"(?:Â|Ã|â€|â\u0080)[{_TAIL}]")
_LEAD: Final = {"Â": 0xC2, "Ã": 0xC3, "â": 0xE2}

_TAG: Final = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9]{0,15})(?:[\s/][^<>]{0,300})?>|<!--")
_BLOCK_TAGS: Final = frozenset({"p", "br", "div", "li", "ul", "ol", "td", "tr", "th", "table", "hr", "h1", "h2", "h3"})
_HIDDEN_TAGS: Final = frozenset({"script", "style"})
_BREAK: Final = "\n"
_BREAKS: Final = dict.fromkeys(map(ord, "\t\n\x0b\x0c\r\x1c\x1d\x1e\x85\u2028\u2029"), _BREAK)
# Printable ASCII without & < >, the letters and signs of Portuguese: nothing to repair but blanks and mojibake.
_PLAIN: Final = re.compile(r"[ -%'-;=?-~ªº°À-ÖØ-öø-ÿ–—]*\Z")
_UNACCENTED: Final = str.maketrans("áàâãäéèêëíìîïóòôõöúùûüçñ", "aaaaaeeeeiiiiooooouuuucn")  # the common case, fast
_BLANKS: Final = re.compile(r" {2,}")
_LINE_BREAK: Final = re.compile(r" *\n[\n ]*")
_AFTER_PUNCTUATION: Final = ",;:|/-–—("


def clean(text: str) -> str:
    """Return `text` repaired and fit to show on one line; case and accents are kept.

    Undone: HTML entities and tags, UTF-8 read as Latin-1 (twice, too), NBSP and exotic blanks, zero-width, format and
    control characters, lone surrogates, decomposed accents (NFC). A line break, tab or HTML block ends a field, so it
    becomes ", " (a blank after other punctuation). Idempotent.
    """
    if _is_plain(text):
        return _blanks(text)
    for _ in range(_MAX_PASSES):
        repaired = _repair(text)
        if repaired == text:
            return text
        text = repaired
    # Nested deeper than any honest text: defuse what could still be repaired, so that clean stays idempotent.
    return _repair(re.sub("[&<>ÂÃâ]", " ", text))


def canonical(text: str) -> str:
    """Return the identity of a text for dedup and caching: cleaned, case-folded, blanks collapsed. Idempotent."""
    if _is_plain(text):  # and stays so when folded: there is nothing to clean twice
        return _blanks(text).casefold()
    for _ in range(_MAX_PASSES):
        folded = clean(clean(text).casefold())
        if folded == text:
            break
        text = folded
    return text


def fold(text: str) -> str:
    """Return `text` case-folded and without accents, for comparing words."""
    lowered = text.lower()
    if lowered.isascii() or (lowered := lowered.translate(_UNACCENTED)).isascii():
        return lowered
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(char for char in decomposed if not unicodedata.combining(char))


def fingerprint(kind: str, text: str, *, secret: bytes) -> str:
    """Return the HMAC-SHA256 (hex) of the canonical text under `kind`.

    Keyed, because a bare hash of a CPF is reversed in minutes by hashing all CPFs.
    """
    message = f"{kind}\0{canonical(text)}".encode()
    return hmac.digest(secret, message, "sha256").hex()


def _is_plain(text: str) -> bool:
    if text.isascii():
        return text.isprintable() and "&" not in text and "<" not in text and ">" not in text
    return _PLAIN.match(text) is not None and not _MOJIBAKE.search(text)


def _repair(text: str) -> str:
    text = _MOJIBAKE.sub(_decode, text)
    if ";" in text and "&" in text:
        text = _entities(text)
    if "<" in text:
        text = _strip_tags(text)
    text = "".join(map(_visible, text.translate(_BREAKS)))
    return _blanks(_line_breaks(unicodedata.normalize("NFC", text)))


def _decode(match: re.Match[str]) -> str:
    damaged = match.group()
    try:
        return bytes([_LEAD[damaged[0]], *(_BYTE[char] for char in damaged[1:])]).decode()
    except UnicodeDecodeError:
        return damaged


def _entities(text: str) -> str:
    """Resolve entities in one pass: at each ';' the tail already written is tried, so nested ones close too."""
    written: list[str] = []
    start = 0
    for end in (i for i, char in enumerate(text) if char == ";"):
        written.extend(text[start : end + 1])
        start = end + 1
        while written and written[-1] == ";" and _close_entity(written):
            pass
    written.extend(text[start:])
    return "".join(written)


def _close_entity(written: list[str]) -> bool:
    for back in range(2, min(len(written), 34) + 1):
        char = written[-back]
        if char == "&":
            entity = "".join(written[-back:])
            value = html.unescape(entity)
            if value == entity:
                return False
            written[-back:] = value
            return True
        if not (char.isalnum() or char == "#"):
            return False
    return False


def _strip_tags(text: str) -> str:
    kept: list[str] = []
    lowered = text.lower()
    at = 0
    while match := _TAG.search(text, at):
        kept.append(text[at : match.start()])
        at = match.end()
        name = (match[2] or "").lower()
        closing = {"": "-->"}.get(name) or (f"</{name}" if name in _HIDDEN_TAGS and not match[1] else None)
        if closing is not None:
            end = lowered.find(closing, at)
            at = len(text) if end < 0 else end + (3 if closing == "-->" else 0)
        kept.append(_BREAK if name in _BLOCK_TAGS or closing else " ")
    kept.append(text[at:])
    return "".join(kept)


def _visible(char: str) -> str:
    if char.isascii():
        return char if char == _BREAK or " " <= char < "\x7f" else ""
    category = unicodedata.category(char)
    if category == "Zs":
        return " "
    return "" if category in {"Cc", "Cf", "Cs", "Co", "Cn"} else char


def _line_breaks(text: str) -> str:
    if _BREAK not in text:
        return text
    text = text.strip(" \n")

    def join(match: re.Match[str]) -> str:
        before = text[match.start() - 1]
        return " " if before in _AFTER_PUNCTUATION else ", "

    return _LINE_BREAK.sub(join, text)


def _blanks(text: str) -> str:
    return (_BLANKS.sub(" ", text) if "  " in text else text).strip()


# -- the folded form that words are compared in -----------------------------------------------------------------------

_FOLDED: Final = str.maketrans("áàâãäéèêëíìîïóòôõöúùûüçñýÿ", "aaaaaeeeeiiiiooooouuuucnyy", "'’´`ºª°")
_SIGNS: Final = ("º", "ª", "°")


@lru_cache(maxsize=32_768)
def word_key(word: str) -> str:
    """Return the folded form words are compared in; apostrophes and ordinal signs dropped."""
    if word[-1:] in _SIGNS and word[:-1].isalpha():
        return _signed_key(word.lower())
    key = word.lower().translate(_FOLDED)
    return key if key.isascii() else fold(key)


def _signed_key(word: str) -> str:
    """Return the key of an abbreviation that ends in a raised letter: "Profª", "Engº"."""
    key = word_key(word.rstrip("ºª°"))
    return key + "a" if word[-1] == "ª" and len(key) > 1 else key
