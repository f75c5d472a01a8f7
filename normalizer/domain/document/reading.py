"""CPF and RG read from a clinic's text: labels decide, check digits confirm, Excel's damage is undone."""

from __future__ import annotations

import re
from typing import Final

from normalizer.domain.decision import Reason, Settled, Undecided
from normalizer.domain.document.tokens import LABELS, Label, label_of, prepare, scan
from normalizer.domain.document.value import Document, cpf_is_valid, long_rg_is_valid, rg_is_valid

MAX_CHARS: Final = 100_000

_NOT_DIGIT: Final = re.compile(r"[^0-9]+")
_WORDS: Final = re.compile(r"[a-z]+")
_TAIL: Final = re.compile(r"[0-9]([^0-9:=]*)\Z")
_NEXT_WORD: Final = re.compile(r"[ (–-]{0,3}([a-z][a-z.]*)")
_LETTERS_BEFORE: Final = re.compile(r"([a-z]+)-?\Z")
_NOUN_BEFORE: Final = re.compile(r"\b([a-z]{3,})[ :=.]{1,3}(?:n|no|nr|num|numero)?[ :.]{0,2}\Z")
# Words that announce nothing of their own before a number.
_NEUTRAL: Final = frozenset(
    {"num", "numero", "numeros", "meu", "minha", "dela", "dele", "seu", "sua", "segue"}
    | {"seguem", "esta", "este", "sao", "ssp", "tambem", "com", "mas"}
)
_SENTENCE_END: Final = re.compile(r"[.!?](?= )|[;|]")
_JOINS: Final = frozenset({"", "/", "e", "ou", "-", ",", "&", "+"})
_ALTERNATIVES: Final = frozenset({"cnpj", "rne", "rnm", "mf"})  # "CPF/CNPJ:", "RG ou RNE:"
_FOREIGN: Final = frozenset({Label.OTHER, Label.PHONE, Label.RECORD})
_PLAIN: Final = frozenset({Label.CPF, Label.RG})
_OURS: Final = _PLAIN | {Label.BOTH}
_OWNERS: Final = frozenset({Label.OTHERS, Label.PATIENT})
_TRAILING: Final = _FOREIGN | _PLAIN | {Label.IDENTITY}
_RG_GROUPS: Final = re.compile(r"[0-9]{1,3}\.[0-9]{3}\.[0-9]{3}(?:-?[0-9x])?")
_ISSUER: Final = re.compile(
    r"[ (/–-]{0,3}(?<![a-z])(?:ssp|sspds|sds|sesp|sejusp|sjs|sjtc|ssds|detran|ifp|iirgd|igp|itep|iiep|pc(?:mg|rj)?)\b"
)
_QUALIFIERS: Final = frozenset({Label.GENERAL, Label.NATIONAL})
# Whose a number is may stand behind it: "111.444.777-35 (mãe)", "… cpf do responsável legal".
_OTHERS: Final = "|".join(word for word, label in LABELS.items() if label == Label.OTHERS)
_OWNER: Final = rf"({_OTHERS}|paciente)\b"
_OWNER_AFTER: Final = re.compile(
    r"(?: (?:ssp|detran|iirgd|ifp|pc|sesp|sds)(?:[ /-]{1,2}[a-z]{2})?\b)?"  # the RG's issuer
    rf" ?(?:\((?:(?:cpf|rg|doc[a-z]*) )?(?:d[aeo]s? )?{_OWNER}[^0-9:=;|\n()]{{0,40}}\)"
    rf"|[,–-]? ?(?:(?:cpf|rg|doc[a-z]*) (?:d[aeo]s? )?|d[aeo]s? ){_OWNER}[^0-9:=;|\n,()]{{0,40}}(?=[;|\n,()]|\Z)"
    # a name behind it says whose child the patient is: "CPF 111.444.777-35, mãe Maria"
    rf"|[–-]? ?{_OWNER} ?(?=[;|\n,()]|\Z))"
)
# Ends what was said of somebody: "mãe: Maria CPF …; CPF …".
_OWNER_ENDS: Final = frozenset(";|\n")
_DAMAGED: Final = re.compile(r"[a-wyz][0-9]")  # "12345678A58": a letter in the middle of a CPF
_CPF_BEGUN: Final = re.compile(r"[0-9]{3}\.[0-9]{3}\.[0-9]{3}")
_MANTISSA: Final = re.compile(r"([0-9])[.,]([0-9]+)e\+?([0-9]+)")
# Ceará and Maranhão put the year of issue into the number; SSPDS is Ceará's own.
_LONG_ISSUER: Final = re.compile(r"\b(?:sspds|(?:[a-z]{2,6}[ /.-]{0,3})?(?:ce|ma))\b")
_SHORT_ISSUER: Final = re.compile(
    r"\b[a-z]{2,6}[ /.-]{1,3}(?!rs|ba|ce|ma)(?:a[clmp]|df|es|go|m[gst]|p[abeir]|r[jnor]|s[cep]|to)\b"
)
_TEN_DIGITS: Final = 10
_WORD_CHARS: Final = 24
_STATES: Final = "ac al am ap ba ce df es go ma mg ms mt pa pb pe pi pr rj rn ro rr rs sc se sp to"
_RG_PREFIXES: Final = frozenset(
    {"m", "n", "no", "nr", "num", "x", "ssp", "sds", "pc", "ifp", "detran", *_STATES.split(" ")}
)


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
        "cpf_problem", "cpfs", "guessed_cpfs", "guessed_rgs", "label", "label_end", "label_owner", "misplaced", "named",
        "negated", "numbers", "of_others", "ordered_until", "owner", "patients", "postfix", "rg_problem",
        "rgs", "said_missing", "strange", "swapped", "text", "told_until", "used", "weak",
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
        self.owner: int = Label.NONE  # OTHERS or PATIENT, until the sentence ends
        self.label_owner: int = Label.NONE  # of the label in force
        self.told_until = 0  # owners named before this position belong to a number already read
        self.of_others = False  # a number was somebody else's
        self.named = False  # a word that may be a name was read since the last number
        self.patients: set[str] = set()  # CPFs with such a word before them

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
            self.named = self.named or (len(word) > 2 and word not in _NEUTRAL)
            self.owner = Label.NONE if word == "sim" else self.owner  # "titular: sim"
        elif label in _OWNERS:
            self._belongs(label, start)
        elif label == Label.MISSING:
            self._missing()
        elif label == Label.ORDER:
            stop = _SENTENCE_END.search(self.text, end)
            self.ordered_until = stop.start() if stop else len(self.text)
        elif not self.postfix:
            self._announce(label, word, start, end)

    def _belongs(self, label: int, start: int) -> None:
        self.strange = True
        if start < self.told_until:
            return
        if self.label in _OURS and not self.used:
            self.label_owner = label
        else:
            self.owner = label

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
        self.label_owner = Label.NONE
        self.weak, self.negated = self.negated, False

    def _qualify(self, label: int) -> None:
        if label == Label.GENERAL and self.label == Label.RECORD:
            self.label = Label.RG
        elif label == Label.NATIONAL and self.label == Label.RG and not self.used:
            self.label = Label.CPF

    def _break(self, char: str, start: int) -> None:
        label = self.label
        if char in _OWNER_ENDS:
            self.owner = Label.NONE
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
        if self._is_of_others(token):
            self.of_others = self.used = True
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
        if kind == "scientific" and (number := _all_digits(token.group())):
            self._classify(number, label, token)
        elif kind in {"masked", "scientific"}:
            self._unreadable(kind, label)
        elif kind == "loose" and label != Label.RG:
            return
        elif kind == "run":
            self._run(token.group(), label, token)
        elif kind != "other":
            self._classify(token.group(), label, token)
        self.named = False

    def _is_of_others(self, token: re.Match[str]) -> bool:
        after = _OWNER_AFTER.match(self.text, token.end())
        if after is None:
            return (self.label_owner or self.owner) == Label.OTHERS
        self.told_until = after.end()
        return label_of(after[after.lastindex or 1]) == Label.OTHERS

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
            self._as_rg(digits, token)
            self._consume()
        else:
            self._guess(digits, written, token)

    def _as_cpf(self, digits: str, *, dangling: bool) -> None:
        length, checks = len(digits), cpf_is_valid(digits.zfill(11))
        if length >= 9 and checks and not dangling:
            self._found(self.cpfs, digits.zfill(11))
        elif length == 11 and not checks:
            self.cpf_problem = self.cpf_problem or Reason.CPF_CHECK_DIGIT
        else:
            self.cpf_problem = self.cpf_problem or (Reason.CPF_MASKED if dangling else Reason.CPF_LENGTH)
            if rg_is_valid(digits) and not dangling:
                (self.guessed_rgs if self.weak else self.misplaced).append(digits)

    def _found(self, cpfs: list[str], cpf: str) -> None:
        cpfs.append(cpf)
        if self.named:
            self.patients.add(cpf)

    def _as_rg(self, digits: str, token: re.Match[str]) -> None:
        if self._glued_to_stranger(token.start()) or _DAMAGED.match(self.text, token.end()):
            self.rg_problem = self.rg_problem or Reason.RG_INVALID  # V123456-7 is a foreigner's register
        elif rg_is_valid(digits) or (long_rg_is_valid(digits) and self._issues_long(digits, token)):
            self.rgs.append(digits)
        elif cpf_is_valid(digits):
            self.swapped = True  # or a new identity card, whose number is the CPF
            self.guessed_cpfs.append(digits)
        else:
            self.rg_problem = self.rg_problem or Reason.RG_INVALID

    def _issues_long(self, digits: str, token: re.Match[str]) -> bool:
        """Whether a state that may have issued it writes so many digits; without any, ten may be right."""
        around = f"{self.text[max(0, self.label_end) : token.start()]} {self.text[token.end() : token.end() + 20]}"
        if _LONG_ISSUER.search(around):
            return True
        return len(digits) == _TEN_DIGITS and not _SHORT_ISSUER.search(around)

    def _guess(self, digits: str, written: str, token: re.Match[str]) -> None:
        start = token.start()
        if _CPF_BEGUN.fullmatch(written) or _DAMAGED.match(self.text, token.end()):
            self.cpf_problem = self.cpf_problem or Reason.CPF_LENGTH
        elif len(digits) == 9 and cpf_is_valid(digits.zfill(11)):
            self.cpf_problem = self.cpf_problem or Reason.DOCUMENT_AMBIGUOUS  # an RG, or a CPF without its zeros
        elif rg_is_valid(digits):
            if not self._glued_to_stranger(start) and not (digits == written and self._called(start)):
                self.guessed_rgs.append(digits)
        elif 10 <= len(digits) <= 11:
            if cpf_is_valid(digits.zfill(11)):
                self._found(self.guessed_cpfs, digits.zfill(11))
            elif len(digits) == 11:
                self.cpf_problem = self.cpf_problem or Reason.CPF_CHECK_DIGIT

    def _glued_to_stranger(self, start: int) -> bool:
        """FZ7377161 is a passport's number; MG12345678 and nº12345678 are not."""
        if self.text[start - 1 : start].isspace() or start == 0:
            return False
        before = _LETTERS_BEFORE.search(self.text, max(0, start - _WORD_CHARS), start)
        return before is not None and before[1] not in _RG_PREFIXES and label_of(before[1]) == Label.NONE

    def _called(self, start: int) -> bool:
        """Does a noun nobody listed announce the number: "crachá 1234567"."""
        before = _NOUN_BEFORE.search(self.text, max(0, start - 24), start)
        return before is not None and before[1] not in _NEUTRAL and label_of(before[1]) == Label.NONE

    def decide(self) -> Settled[Document] | Undecided:
        cpfs = self.cpfs or self.guessed_cpfs
        rgs = self.rgs or self.guessed_rgs or (self.misplaced if self.swapped and not self.cpfs else [])
        rgs = [rg for rg in rgs if rg.zfill(11) not in cpfs]
        if len(self.patients) > 1:
            return Undecided(Reason.DOCUMENT_OF_SEVERAL)
        if cpfs:
            note = Reason.DOCUMENT_AMBIGUOUS if len(set(cpfs)) > 1 else None
            return Settled(Document(cpfs[0], rgs[0] if rgs else None), note or (None if rgs else self.rg_problem))
        if rgs:
            return Settled(Document(None, rgs[0]), self.cpf_problem)
        return Undecided(self.cpf_problem or self.rg_problem or self._nothing())

    def _nothing(self) -> Reason:
        if self.of_others:
            return Reason.DOCUMENT_OF_OTHERS
        if not self.numbers and (self.said_missing or not self.strange):
            return Reason.DOCUMENT_MISSING
        return Reason.DOCUMENT_JUNK


def _labels_follow(text: str) -> bool:
    """Whether the last number is followed by a label that announces nothing more."""
    tail = _TAIL.search(text)
    return tail is not None and any(label_of(word) in _TRAILING for word in _WORDS.findall(tail[1]))


def _all_digits(written: str) -> str | None:
    """The number in scientific notation that lost no digit (`1.1144477735e10`, as Java writes one), or None.

    Zeros at its end are not written: two at most are believed, where they make a CPF's check digits hold.
    """
    match = _MANTISSA.fullmatch(written)
    missing = int(match[3]) - len(match[2]) if match else -1
    if match is None or not 0 <= missing <= 2:
        return None
    digits = f"{match[1]}{match[2]}{'0' * missing}"
    return digits if missing == 0 or cpf_is_valid(digits.zfill(11)) else None


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
