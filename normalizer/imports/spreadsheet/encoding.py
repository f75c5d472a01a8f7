"""The text of csv and markup: which encoding, decided per file by what makes Portuguese of its bytes.

A byte-order mark decides; then UTF-8, of which a stray byte takes nothing away; then whichever of the one-byte
encodings that Brazilian programs write (Windows, DOS, Mac) makes Portuguese words. Where a letter is lost it stays
U+FFFD, and whoever reads the cell says so.
"""

from __future__ import annotations

import codecs
import io
import re
from dataclasses import dataclass
from itertools import islice
from typing import IO, TYPE_CHECKING, BinaryIO, Final

from normalizer.imports.spreadsheet.table import Doubt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CHUNK: Final = 1 << 20
_CONTROLS: Final = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1a"))
_PIECE: Final = 1 << 16
_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_ONE_BYTE: Final = ("cp1252", "cp850", "mac_roman")  # the first of equals: what Excel here writes
_WORD: Final = re.compile(rb"[A-Za-z\x80-\xff]{1,40}")
_MOST_WORDS: Final = 4_000
_LETTERS: Final = frozenset("áàâãéêíóôõúüçÁÀÂÃÉÊÍÓÔÕÚÜÇ")
_MARKS: Final = frozenset("ºª°§“”‘’–—…•·´\xa0")
_ENDINGS: Final = re.compile(r"ção|ções|ão|ões|ãe", re.IGNORECASE)
_NEVER: Final = re.compile(r"ç(?![aouãõáóúâô])|õ(?!e)|[a-zà-ÿ][À-Ý]", re.UNICODE)
_LOST: Final = re.compile(rb"[A-Za-z]\?[a-z]")
_UNKNOWN: Final = re.compile("\ufffd")
_ASKED: Final = re.compile(r"[A-Za-z]\?[A-Za-z]")

_DOUBT: Final = Doubt(
    "um texto cuja codificação se reconheça",
    "acentos que podem ter saído trocados",
    "Confira os nomes e endereços acentuados na prévia; na dúvida, salve a planilha como .xlsx.",
)
_LOSSY: Final = Doubt(
    "um texto com seus acentos",
    "letras perdidas na exportação (“?” ou “�” no lugar delas)",
    "As células atingidas não são usadas: exporte de novo como .xlsx ou como CSV UTF-8.",
)


@dataclass(frozen=True, slots=True)
class Charset:
    """How the bytes of a file are read.

    Attributes:
        open: gives them from the first one on.
        twice: some lines are UTF-8 that was taken for Windows-1252 (“EndereÃ§o”).
        stray: what reads a byte that is none of `codec`'s, where lines of two encodings stand in one file.
        lost: finds what stands in place of lost letters; None where none can be lost.
    """

    open: Callable[[], IO[bytes]]
    codec: str
    twice: bool = False
    stray: str = "normalizer.stray"
    lost: re.Pattern[str] | None = None
    doubts: tuple[Doubt, ...] = ()

    def lines(self, most_chars: int = _PIECE) -> Iterator[str]:
        """Decoded lines with their ends as they are, a longer one in pieces of `most_chars`."""
        text = io.TextIOWrapper(self.open(), encoding=self.codec, errors=self.stray, newline="")
        while line := text.readline(most_chars):
            yield _once(line) if self.twice else line


def rewound(file: BinaryIO) -> IO[bytes]:
    """The file from its first byte. Only the last one that was asked for is read on: all have one place in it."""
    file.seek(0)
    return open(file.fileno(), "rb", closefd=False)  # no new descriptor: there is none to be had


def detect(open_binary: Callable[[], IO[bytes]]) -> Charset:
    """Look at every byte, a megabyte at a time, and decide."""
    with open_binary() as stream:
        start = stream.read(4096)
    marked = next((name for bom, name in _BOMS if start.startswith(bom)), None) or _without_mark(start)
    if marked is not None and marked != "utf-8-sig":
        return Charset(open_binary, marked, lost=_UNKNOWN)
    found = _look(open_binary)
    if found.strays > found.beyond_ascii:
        return _one_byte(open_binary, found)
    lost = _UNKNOWN if found.strays or found.lost else None
    if not found.beyond_ascii and found.question_marks:
        lost = _ASKED
    doubts = (_LOSSY,) if found.lost or lost is _ASKED else (_DOUBT,) if found.strays else ()
    return Charset(open_binary, marked or "utf-8", twice=_is_twice(found.words), lost=lost, doubts=doubts)


@dataclass(slots=True)
class _Look:
    strays: int = 0
    beyond_ascii: int = 0
    letters: bool = False
    question_marks: bool = False
    lost: bool = False
    words: frozenset[bytes] = frozenset()


def _look(open_binary: Callable[[], IO[bytes]]) -> _Look:
    found, words = _Look(), set[bytes]()
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    with open_binary() as stream:
        while chunk := stream.read(_CHUNK):
            text = decoder.decode(chunk)
            if not text.isascii():
                strays = text.count("\ufffd") - chunk.count(b"\xef\xbf\xbd")
                found.strays += strays
                found.letters = found.letters or not _LETTERS.isdisjoint(text)
                found.beyond_ascii += len(text) - len(text.encode("ascii", "ignore")) - strays
                accented = (word for word in _WORD.findall(chunk) if not word.isascii())
                words.update(islice(accented, _MOST_WORDS - len(words)))
            found.question_marks = found.question_marks or _LOST.search(chunk) is not None
            found.lost = found.lost or b"\xef\xbf\xbd" in chunk
    if decoder.decode(b"", final=True):  # cut in the middle of a letter
        found.strays, found.lost = found.strays + 1, True
    found.words = frozenset(words)
    return found


def _without_mark(start: bytes) -> str | None:
    """UTF-16 without its mark: every other byte of Latin text is zero, and the rest is text."""
    for text, zeros, codec in ((start[0::2], start[1::2], "utf-16-le"), (start[1::2], start[0::2], "utf-16-be")):
        if zeros.count(0) > 0.4 * len(zeros) and not is_binary(text):
            return codec
    return None


def is_binary(start: bytes) -> bool:
    """Whether bytes in a one-byte encoding are no text: more than one in fifty controls nothing a text knows."""
    return 50 * (len(start) - len(start.translate(None, _CONTROLS))) > len(start)


def _one_byte(open_binary: Callable[[], IO[bytes]], found: _Look) -> Charset:
    words = frozenset(word for word in found.words if not found.letters or not _is_utf8(word))
    ranked = sorted(_ONE_BYTE, key=lambda codec: -_portuguese(words, codec))
    best, second = (_portuguese(words, codec) for codec in ranked[:2])
    in_doubt = best <= second or best < len(words) / 2
    if not found.letters:
        return Charset(open_binary, ranked[0], lost=_UNKNOWN, doubts=(_DOUBT,) if in_doubt else ())
    return Charset(open_binary, "utf-8", stray=f"normalizer.{ranked[0]}", lost=_UNKNOWN, doubts=(_DOUBT,))


def _portuguese(words: frozenset[bytes], codec: str) -> int:
    return sum(_score(word.decode(codec, "replace")) for word in words)


def _score(word: str) -> int:
    score = 2 * len(_ENDINGS.findall(word)) - 2 * len(_NEVER.findall(word))
    for at, char in enumerate(word):
        if char in _LETTERS:
            score += 1
        elif char > "\x7f" and not (char in _MARKS and (at == 0 or at == len(word) - 1)):
            score -= 2
    return score


def _is_utf8(word: bytes) -> bool:
    try:
        word.decode()
    except UnicodeError:
        return False
    return True


def _is_twice(words: frozenset[bytes]) -> bool:
    texts = [word.decode("utf-8", "replace") for word in words]
    return 2 * sum(_once(text) != text for text in texts) > len(texts)


def _once(text: str) -> str:
    """`EndereÃ§o` → `Endereço`; a text that was not written twice stays."""
    if text.isascii():
        return text
    try:
        return text.encode("cp1252", "normalizer.c1").decode("utf-8")
    except UnicodeError:
        return text


def _stray(error: UnicodeError) -> tuple[str, int]:
    """One byte that is no UTF-8: the Portuguese letter it is in Windows-1252, where one fits there, else U+FFFD."""
    if not isinstance(error, UnicodeDecodeError) or error.encoding not in {"utf-8", "utf8"}:
        end = error.end if isinstance(error, UnicodeDecodeError) else 0
        return "\ufffd", end
    letter = error.object[error.start : error.start + 1].decode("cp1252", "replace")
    beside = error.object[max(0, error.start - 1) : error.start] + error.object[error.start + 1 : error.start + 2]
    around = beside.decode("cp1252", "replace")
    fits = letter in _LETTERS and around.isalpha() and letter.islower() == around.islower()
    return letter if fits else "\ufffd", error.start + 1


def _in(codec: str) -> Callable[[UnicodeError], tuple[str, int]]:
    """One byte that is no UTF-8, as it is in another encoding: of lines of both in one file."""

    def read(error: UnicodeError) -> tuple[str, int]:
        if not isinstance(error, UnicodeDecodeError):
            raise error
        return error.object[error.start : error.start + 1].decode(codec, "replace"), error.start + 1

    return read


def _c1(error: UnicodeError) -> tuple[bytes, int]:
    """The five bytes Windows-1252 leaves undefined stand for themselves."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return error.object[error.start : error.end].encode("latin-1"), error.end


codecs.register_error("normalizer.stray", _stray)
codecs.register_error("normalizer.c1", _c1)
for _codec in _ONE_BYTE:
    codecs.register_error(f"normalizer.{_codec}", _in(_codec))
