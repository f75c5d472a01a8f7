"""How CPF and RG are read from what a clinic typed: labels decide, check digits confirm, Excel's damage is undone."""

from __future__ import annotations

import re
from typing import Final

from normalizer.domain.decision import Reason, Settled, Undecided
from normalizer.domain.document.tokens import Label, label_of, prepare, scan
from normalizer.domain.document.value import Document, cpf_is_valid, rg_is_valid

MAX_CHARS: Final = 100_000

_NOT_DIGIT: Final = re.compile(r"[^0-9]+")
_WORDS: Final = re.compile(r"[a-z]+")
_TAIL: Final = re.compile(r"[0-9]([^0-9:=]*)\Z")
_NEXT_WORD: Final = re.compile(r"[ (–-]{0,3}([a-z][a-z.]*)")
_LETTERS_BEFORE: Final = re.compile(r"([a-z]+)-?\Z")
_NOUN_BEFORE: Final = re.compile(r"\b([a-z]{3,})[ :=.]{1,3}(?:n|no|nr|num|numero)?[ :.]{0,2}\Z")
# Words that announce nothing of their own before a number.
_NEUTRAL: Final = frozenset(
    {"num", "numero", "numeros", "meu", "minha", "dela", "dele", "seu", "sua", "paciente", "titular", "segue"}
    | {"seguem", "esta", "este", "sao", "ssp", "tambem", "com", "mas"}
)
_SENTENCE_END: Final = re.compile(r"[.!?](?= )|[;|]")
_JOINS: Final = frozenset({"", "/", "e", "ou", "-", ",", "&", "+"})
_ALTERNATIVES: Final = frozenset({"cnpj", "rne", "rnm", "mf"})  # "CPF/CNPJ:", "RG ou RNE:"
_FOREIGN: Final = frozenset({Label.OTHER, Label.PHONE, Label.RECORD})
_PLAIN: Final = frozenset({Label.CPF, Label.RG})
_OURS: Final = _PLAIN | {Label.BOTH}
_TRAILING: Final = _FOREIGN | _PLAIN | {Label.IDENTITY}
_RG_GROUPS: Final = re.compile(r"[0-9]{1,3}\.[0-9]{3}\.[0-9]{3}(?:-?[0-9x])?")
_ISSUER: Final = re.compile(
    r"[ (/–-]{0,3}(?<![a-z])(?:ssp|sspds|sds|sesp|sejusp|sjs|sjtc|ssds|detran|ifp|iirgd|igp|itep|iiep|pc(?:mg|rj)?)\b"
)
_QUALIFIERS: Final = frozenset({Label.GENERAL, Label.NATIONAL})
_STATES: Final = "ac al am ap ba ce df es go ma mg ms mt pa pb pe pi pr rj rn ro rr rs sc se sp to"
_RG_PREFIXES: Final = frozenset({"m", "n", "no", "nr", "num", "x", "ssp", *_STATES.split(" ")})


def parse_document(text: str) -> Settled[Document] | Undecided:
    """Read CPF and RG from free text by rules alone. Total: any string ends in a decision, nothing is raised.

    Labels decide what a number is, check digits confirm it. Without a label eleven digits that check are a CPF, seven
    to nine are an RG. Dates, telephones, CNH, CNS, PIS, título, CNPJ, passports and the like are never documents.
    """
    if len(text) > MAX_CHARS:
        return Undecided(Reason.TEXT_TOO_LONG)
    reader = _Reader(prepare(text))
    reader.read()
    return reader.decide()


class _Reader:
    """One pass over the tokens of one text, remembering which label is in force."""

    __slots__ = (
        "cpf_problem", "cpfs", "guessed_cpfs", "guessed_rgs", "label", "label_end", "misplaced", "negated", "numbers",
        "ordered_until", "postfix", "rg_problem", "rgs", "said_missing", "strange", "swapped", "text", "used", "weak",
    )  # fmt: skip

    def __init__(self, prepared: str) -> None:
        self.text = prepared
        self.label: int = Label.NONE  # in force
        self.label_end = -1  # where its word ends; -1 before the first label
        self.used = False  # it has had its number
        self.weak = False  # it announces nothing: "sem CPF", "RG: não tem"
        self.negated = False  # "sem", "não" were read, no label since
        self.postfix: bool | None = None  # labels follow their numbers: "11144477735 (CPF)"
        self.numbers = 0
        self.ordered_until = 0  # numbers before this position are part of an order to a machine
        self.said_missing = self.strange = self.swapped = False
        self.cpfs: list[str] = []
        self.rgs: list[str] = []
        self.guessed_cpfs: list[str] = []  # told by shape and check digits, not by a label
        self.guessed_rgs: list[str] = []
        self.misplaced: list[str] = []  # RG-shaped numbers under the label CPF
        self.cpf_problem: Reason | None = None
        self.rg_problem: Reason | None = None

    def read(self) -> None:
        for token in scan(self.text):
            kind = token.lastgroup
            if kind == "word":
                self._word(token.group(), token.start(), token.end())
            elif kind == "break":
                self._break(token.group(), token.start())
            else:
                self._number(kind or "", token)

    def _word(self, word: str, start: int, end: int) -> None:
        label = label_of(word)
        if label == Label.NONE:
            self.strange = self.strange or len(word) > 2
        elif label == Label.MISSING:
            self._missing()
        elif label == Label.ORDER:
            stop = _SENTENCE_END.search(self.text, end)
            self.ordered_until = stop.start() if stop else len(self.text)
        elif not self.postfix:
            self._announce(label, word, start, end)

    def _missing(self) -> None:
        self.said_missing = True
        if self.label == Label.NONE or self.used:
            self.negated = True
        else:
            self.weak = True

    def _announce(self, label: int, word: str, start: int, end: int) -> None:
        if label in _QUALIFIERS:
            self._qualify(label)
            return
        pending = not self.used and self.label in _PLAIN
        if pending and self.text[self.label_end : start].strip() in _JOINS:
            if word in _ALTERNATIVES:
                return
            if label != self.label and label in _PLAIN:
                label = Label.BOTH
        self.label = Label.NONE if label == Label.ANY else label
        self.label_end, self.used = end, False
        self.weak, self.negated = self.negated, False

    def _qualify(self, label: int) -> None:
        if label == Label.GENERAL and self.label == Label.RECORD:
            self.label = Label.RG
        elif label == Label.NATIONAL and self.label == Label.RG and not self.used:
            self.label = Label.CPF

    def _break(self, char: str, start: int) -> None:
        label = self.label
        if label == Label.NONE:
            self.negated = False
        elif self.used:
            if label != Label.PHONE or char in ";|":
                self.label = Label.NONE
        elif self.weak or (label in _OURS and self.text[self.label_end : start].strip() == ":"):
            self._consume()

    def _number(self, kind: str, token: re.Match[str]) -> None:
        self.numbers += 1
        if token.start() < self.ordered_until:
            return
        label = self._label_for(token)
        if label == Label.IDENTITY:
            written = (
                _RG_GROUPS.fullmatch(token.group())
                or _ISSUER.match(self.text, token.end())
                or _ISSUER.search(self.text, max(0, self.label_end), token.start())
            )
            label = Label.RG if written else Label.OTHER
        if label in _FOREIGN:
            self.used = True
            if kind != "cpf" or label != Label.PHONE:
                return
            label = Label.NONE
        if kind in {"masked", "scientific"}:
            self._unreadable(kind, label)
        elif kind == "loose" and label != Label.RG:
            return
        elif kind == "run":
            self._run(token.group(), label, token)
        elif kind != "other":
            self._classify(token.group(), label, token)

    def _run(self, run: str, label: int, token: re.Match[str]) -> None:
        parts = run.split("-")
        if len(run) > 15 and all(part.isdigit() and 7 <= len(part) <= 11 for part in parts):
            for part in parts:  # "11144477735-123456789": two documents, one hyphen
                self._classify(part, label, token)
                label = Label.NONE
        else:
            self._classify(_without_float(run), label, token)

    def _label_for(self, token: re.Match[str]) -> int:
        if self.postfix is None:
            self.postfix = self.label_end < 0 and _labels_follow(self.text)
        if not self.postfix:
            return self.label
        after = _NEXT_WORD.match(self.text, token.end())
        label = label_of(after[1]) if after else Label.NONE
        return label if label in _TRAILING else Label.NONE

    def _unreadable(self, kind: str, label: int) -> None:
        if label == Label.RG:
            self.rg_problem = self.rg_problem or Reason.RG_INVALID
        else:
            self.cpf_problem = self.cpf_problem or (Reason.CPF_MASKED if kind == "masked" else Reason.EXCEL_SCIENTIFIC)
        self._consume()

    def _consume(self) -> None:
        self.label, self.weak = Label.NONE, False

    def _classify(self, written: str, label: int, token: re.Match[str]) -> None:
        digits = written if written.isdigit() else _NOT_DIGIT.sub("", written)
        if len(digits) < 5:  # "2 vias", "1.": no attempt at a document
            return
        if written[-1] == "x":
            digits += "X"
        if label == Label.CPF:
            self._as_cpf(digits, dangling=self.text[token.end() : token.end() + 1] == "-")
            self._consume()
        elif label == Label.RG:
            self._as_rg(digits)
            self._consume()
        else:
            self._guess(digits, written, token.start())

    def _as_cpf(self, digits: str, *, dangling: bool) -> None:
        length = len(digits)
        if length == 11 and not cpf_is_valid(digits):
            self.cpf_problem = self.cpf_problem or Reason.CPF_CHECK_DIGIT
        elif 9 <= length <= 11 and not dangling and cpf_is_valid(digits.zfill(11)):
            self.cpfs.append(digits.zfill(11))
        else:
            self.cpf_problem = self.cpf_problem or (Reason.CPF_MASKED if dangling else Reason.CPF_LENGTH)
            if rg_is_valid(digits) and not dangling:
                (self.guessed_rgs if self.weak else self.misplaced).append(digits)

    def _as_rg(self, digits: str) -> None:
        if rg_is_valid(digits):
            self.rgs.append(digits)
        elif cpf_is_valid(digits):
            self.swapped = True  # or a new identity card, whose number is the CPF
            self.guessed_cpfs.append(digits)
        else:
            self.rg_problem = self.rg_problem or Reason.RG_INVALID

    def _guess(self, digits: str, written: str, start: int) -> None:
        if rg_is_valid(digits):
            if not self._glued_to_stranger(start) and not (digits == written and self._called(start)):
                self.guessed_rgs.append(digits)
        elif 10 <= len(digits) <= 11:
            if cpf_is_valid(digits.zfill(11)):
                self.guessed_cpfs.append(digits.zfill(11))
            elif len(digits) == 11:
                self.cpf_problem = self.cpf_problem or Reason.CPF_CHECK_DIGIT

    def _glued_to_stranger(self, start: int) -> bool:
        """FZ7377161 is a passport's number; MG12345678 and nº12345678 are not."""
        before = _LETTERS_BEFORE.search(self.text, max(0, start - 8), start)
        return before is not None and before[1] not in _RG_PREFIXES and label_of(before[1]) == Label.NONE

    def _called(self, start: int) -> bool:
        """Does a noun nobody listed announce the number: "crachá 1234567"."""
        before = _NOUN_BEFORE.search(self.text, max(0, start - 24), start)
        return before is not None and before[1] not in _NEUTRAL and label_of(before[1]) == Label.NONE

    def decide(self) -> Settled[Document] | Undecided:
        cpfs = self.cpfs or self.guessed_cpfs
        rgs = self.rgs or self.guessed_rgs or (self.misplaced if self.swapped and not self.cpfs else [])
        if cpfs:
            note = Reason.DOCUMENT_AMBIGUOUS if len(set(cpfs)) > 1 else None
            return Settled(Document(cpfs[0], rgs[0] if rgs else None), note or (None if rgs else self.rg_problem))
        if rgs:
            return Settled(Document(None, rgs[0]), self.cpf_problem)
        return Undecided(self.cpf_problem or self.rg_problem or self._nothing())

    def _nothing(self) -> Reason:
        if not self.numbers and (self.said_missing or not self.strange):
            return Reason.DOCUMENT_MISSING
        return Reason.DOCUMENT_JUNK


def _labels_follow(text: str) -> bool:
    """Whether the last number is followed by a label that announces nothing more."""
    tail = _TAIL.search(text)
    return tail is not None and any(label_of(word) in _TRAILING for word in _WORDS.findall(tail[1]))


def _without_float(run: str) -> str:
    """Drop the `.0` Excel adds to a number, before anything else is stripped (`11144477735.0`)."""
    if run.isdigit():
        return run
    body, _, cents = run.rpartition("," if "," in run[-3:] else ".")
    if cents not in {"0", "00"} or not body:
        return run
    if body.isdigit():
        return run if cents == "00" and cpf_is_valid(body + cents) else body
    separator = run[len(body)]
    return run if separator in body and "-" not in body else body
