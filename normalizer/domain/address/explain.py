"""What people are shown of a reading: its steps, the doubts that it leaves, and what a clinic's own words settle.

Nothing here decides for the rules. `explain` shows how they read; a `Doubt` proposes what they leave open, and
`inferred` tells what of a proposal the text does not carry: whoever chooses it answers for that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from normalizer.domain import gazetteer
from normalizer.domain.address import lexicon as lx
from normalizer.domain.address import standard, weights
from normalizer.domain.address import tokens as tk
from normalizer.domain.address.grounding import ViolationKind, check, deduced, violations
from normalizer.domain.address.leftovers import chunks
from normalizer.domain.address.passes import PASSES, gather
from normalizer.domain.address.rules import parse_address, readings
from normalizer.domain.address.standard import FIELDS, Address
from normalizer.domain.address.tokens import MAX_CHARS, NUM, WORD, Evidence, Tokens, alternatives
from normalizer.domain.address.words import WORDS, phrase_key
from normalizer.domain.decision import Reason, Settled, Undecided
from normalizer.domain.text import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from normalizer.domain.address.rules import Reading

_MARKS: Final = {
    tk.LABEL: "rótulo",
    tk.DROPPED: "fora do endereço",
    tk.POSTCODE: "CEP",
    tk.STATE: "UF",
    tk.CITY: "município",
    tk.STREET: "logradouro",
    tk.NUMBER: "número (S/N)",
    tk.UNIT: "parte de complemento",
    tk.DISTRICT: "nome de bairro",
}
_KINDS: Final = {tk.WORD: "palavra", tk.NUM: "número", tk.CEP: "CEP", tk.PHONE: "fone", tk.NOISE: "ruído"}
_GAPS: Final = {tk.GLUED: "", tk.BLANK: " ", tk.HYPHEN: "-", tk.SLASH: "/", tk.HARD: "|"}
_PROBLEMS: Final = {
    ViolationKind.INVENTED: "não está no texto",
    ViolationKind.WRONG_KIND: "é outra coisa no texto",
    ViolationKind.CONFLICT: "contradiz o resto do endereço",
    ViolationKind.CLAIMED_TWICE: "só está no texto como parte de outro campo",
    ViolationKind.OMITTED: "o texto diz mais do que o endereço",
}


@dataclass(frozen=True, slots=True)
class Token:
    """One token: as typed, its key, its kind, the gap before it, and the roles that its key has in the word list."""

    texto: str
    chave: str
    tipo: str
    separador: str
    papeis: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """What one pass marked: `(words, mark)` of each run of tokens."""

    passo: str
    marcou: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One reading that was tried: where city and street are, its score, and its address or why it failed."""

    cidade: str
    rua: str
    pontos: float
    endereco: dict[str, str | None] | None
    motivo: str | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a text was read. `margem`: by how much the best reading beats the next one that says something else."""

    texto: str
    tokens: tuple[Token, ...]
    passos: tuple[Step, ...]
    leituras: tuple[Candidate, ...]
    margem: float | None
    margem_minima: float
    objecoes: tuple[tuple[str, str], ...]
    resultado: dict[str, str | None] | None
    deduzido: tuple[str, ...]
    motivo: str | None

    def as_dict(self) -> dict[str, Any]:
        """Everything, as one JSON document."""
        return asdict(self)

    def __str__(self) -> str:
        """Everything, for reading."""
        return "\n".join(_lines(self))


def explain(text: str) -> Explanation:
    """Say how the rules read `text`. Total. Holds the text: for the screen of who typed it, never for a log."""
    part = alternatives(text)[0]
    tokens = evidence = Evidence(part[: tk.MAX_CHARS])
    steps = [_step(evidence, mark) for mark in PASSES if tokens.size]
    tried = (readings(evidence) if tokens.size else None) or []
    best = next((reading.address for reading in tried if reading.address is not None), None)
    objections = check(evidence, best) if best is not None else ()  # what grounding has against it
    decision = parse_address(text)
    settled = decision if isinstance(decision, Settled) else None
    return Explanation(
        texto=part,
        tokens=tuple(_token(tokens, at) for at in range(tokens.size)),
        passos=tuple(step for step in steps if step.marcou),
        leituras=tuple(_candidate(tokens, reading) for reading in tried),
        margem=_margin(tried),
        margem_minima=weights.MARGIN,
        objecoes=tuple((found.field, _PROBLEMS[found.problem]) for found in objections),
        resultado=settled.value.as_dict() if settled else None,
        deduzido=settled.inferred if settled else (),
        motivo=decision.reason.value if isinstance(decision, Undecided) else None,
    )


def _token(tokens: Tokens, at: int) -> Token:
    key = tokens.keys[at]
    roles = {role for word in WORDS.having(key) for role, spellings in word.roles.items() if key in spellings}
    return Token(tokens.words[at], key, _KINDS[tokens.kinds[at]], _GAPS[tokens.gaps[at]], tuple(sorted(roles)))


def _step(evidence: Evidence, mark: Callable[[Evidence], None]) -> Step:
    before = bytes(evidence.marks)
    mark(evidence)
    return Step(mark.__name__, tuple(_changed(evidence, before)))


def _changed(evidence: Evidence, before: bytes) -> Iterator[tuple[str, str]]:
    """Yield the runs of tokens whose mark a pass changed."""
    marks, at = evidence.marks, 0
    while at < len(marks):
        end = at
        while end < len(marks) and marks[end] != before[end] and marks[end] == marks[at]:
            end += 1
        if end > at:
            yield " ".join(evidence.words[at:end]), _MARKS[marks[at]]
        at = max(end, at + 1)


def _candidate(tokens: Tokens, reading: Reading) -> Candidate:
    place, start = reading.place, reading.start
    return Candidate(
        cidade=f"{place.name}/{place.uf}",
        rua=f"{start.kind} {tokens.words[start.name]}".strip() + " …",
        pontos=round(reading.score, 2),
        endereco=reading.address.as_dict() if reading.address else None,
        motivo=reading.reason and reading.reason.value,
    )


def _margin(tried: list[Reading]) -> float | None:
    whole = [reading for reading in tried if reading.address is not None]
    others = [reading for reading in whole if reading.address != whole[0].address]
    return round(whole[0].score - others[0].score, 2) if others else None


def _lines(about: Explanation) -> Iterator[str]:
    yield f"Texto     {about.texto}"
    yield "Palavras  (| separa campos)"
    for token in about.tokens:
        yield f"  {token.separador or '·':1} {token.texto:20} {token.tipo:8} {', '.join(token.papeis)}"
    yield "Passos"
    for step in about.passos:
        yield f"  {step.passo:24} " + "; ".join(f"{words} = {mark}" for words, mark in step.marcou)
    yield "Leituras"
    for reading in about.leituras:
        yield f"  {reading.pontos:5.2f}  {reading.cidade}, {reading.rua}  {_said(reading.endereco, reading.motivo)}"
    yield from _verdict(about)


def _verdict(about: Explanation) -> Iterator[str]:
    if about.margem is not None:
        yield f"Margem    {about.margem} sobre a próxima leitura diferente; o mínimo é {about.margem_minima}"
    for name, problem in about.objecoes:
        yield f"Objeção   {name}: {problem}"
    yield f"Resultado {_said(about.resultado, about.motivo)}"
    if about.deduzido:
        yield f"Deduzido  {', '.join(about.deduzido)}"


def _said(address: dict[str, str | None] | None, reason: str | None) -> str:
    if address is None:
        return f"em revisão: {reason}"
    return "; ".join(f"{name}={value}" for name, value in address.items() if value)


# -- doubts -----------------------------------------------------------------------------------------------------------

#: What a part of a text is when it is none of an address's fields.
LEFT, APART = "duvida", "fora"
_FIELD: Final = {
    tk.FREE: LEFT, tk.LABEL: APART, tk.DROPPED: APART, tk.POSTCODE: "cep", tk.STATE: "estado", tk.CITY: "cidade",
    tk.STREET: "rua", tk.NUMBER: "numero", tk.UNIT: "complemento", tk.DISTRICT: "bairro",
}  # fmt: skip
_MOST_LEFT: Final = 4  # runs of words; a text of which more is left has to be typed
_LAST_FIELD: Final = re.compile(r"[,;|()/:]|\s[-–—]\s")
_TRAILING: Final = " .,;:|/()-–—"
_TAIL_CHARS: Final = 80
_UNSAID: Final = frozenset({ViolationKind.INVENTED, ViolationKind.CONFLICT})


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of the text and the field it was read as; `LEFT` where nobody knows, `APART` where it is none."""

    text: str
    field: str


@dataclass(frozen=True, slots=True)
class Town:
    """A municipality that a text names without its state, and the states that have one so called."""

    name: str
    ufs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Proposal:
    """One way to read the text; `how` tells a person what it makes of it."""

    address: Address
    how: str


def town_without_state(text: str) -> Town | None:
    """Return the municipality that the text ends with, its state unsaid. Total, and cheap."""
    tail = clean(text[-_TAIL_CHARS:]).rstrip(_TRAILING)
    words = gazetteer.name_key(_LAST_FIELD.split(tail)[-1]).split()
    for start in range(max(0, len(words) - gazetteer.MAX_NAME_WORDS), len(words)):
        by_uf = gazetteer.municipalities(" ".join(words[start:]))
        if by_uf:
            return Town(next(iter(by_uf.values())), tuple(sorted(by_uf)))
    return None


def completed(text: str, uf: str, city: str | None = None) -> str:
    """Return the text with the state (and the city, where it names none) that somebody says it lies in."""
    return f"{text}, {city} - {uf}" if city else f"{text.rstrip(_TRAILING)} - {uf}"


def reason_of(text: str) -> Reason | None:
    """Return why the rules leave it open; None where they read it."""
    decision = parse_address(text)
    return decision.reason if isinstance(decision, Undecided) else None


class Doubt:
    """A text as the rules read it, as far as they came."""

    def __init__(self, text: str) -> None:
        self._cells = alternatives(text)
        self._tokens = evidence = gather(Evidence(self._cells[0][:MAX_CHARS]))
        self._tried = (readings(evidence) if self._tokens.size else None) or []
        self._best = self._tried[0] if self._tried else None
        self._marks = bytearray(self._best.marks if self._best else evidence.marks)
        self._chunks = chunks(self._tokens, self._marks)
        self._cep = standard.cep(evidence.ceps[0]) if len(evidence.ceps) == 1 else None
        self.cep_uf = evidence.cep_ufs[0] if evidence.cep_ufs else None
        self.text = self._tokens.text  # as it is read: the first address of the cell

    @property
    def known(self) -> dict[str, str]:
        """The fields that were read, by name."""
        best = self._best
        if best is None:
            return {"cep": self._cep} if self._cep else {}
        if best.address is not None:
            read = best.address.as_dict()
        else:
            place = {"cidade": best.place.name, "estado": best.place.uf}
            read = {**place, **best.understood, "complemento": best.complement}
            if self.cep_uf in {None, best.place.uf}:
                read["cep"] = self._cep
        return {name: value for name in FIELDS if (value := read.get(name))}

    @property
    def left(self) -> tuple[str, ...]:
        """The runs of words that no field explains, as typed."""
        return tuple(self._typed(*chunk) for chunk in self._chunks)

    def parts(self, *, added: int = 0) -> tuple[Part, ...]:
        """Return the text in pieces, each with the field it was read as, without the last `added` characters."""
        if len(self._cells) > 1 or not self._tokens.size:
            return (Part(" // ".join(self._cells), APART),)
        left, found = len(self._tokens.text) - added, []
        for part in self._pieces():
            if left > 0:
                found.append(Part(part.text[:left], part.field))
            left -= len(part.text)
        return tuple(found)

    def proposals(self) -> Iterator[Proposal]:
        """Yield the ways to read the text as it stands, the likeliest first."""
        whole = dict.fromkeys(reading.address for reading in self._tried if reading.address is not None)
        for number, address in enumerate(whole):
            yield Proposal(address, "outra leitura" if number else "leitura mais provável")
        if not whole and {"rua", "cidade", "estado"} <= self.known.keys():
            yield from self._shared_out(Address.from_dict({name: self.known.get(name) for name in FIELDS}))

    def _shared_out(self, base: Address) -> Iterator[Proposal]:
        """Yield what was understood with what is left of the text as district, as complement, and left out."""
        runs = list(self._chunks)
        if len(runs) > _MOST_LEFT:
            return
        numbers = [run for run in runs if run[1] - run[0] == 1 and self._tokens.kinds[run[0]] == NUM]
        if numbers and base.numero is None:
            base = replace(base, numero=standard.number(self._tokens.keys[numbers[0][0]]))
            runs.remove(numbers[0])
        for run in [run for run in runs if base.bairro is None and self._tokens.kinds[run[0]] == WORD]:
            others = [one for one in runs if one != run]
            district = replace(base, bairro=standard.district(self._tokens, *run))
            yield Proposal(self._with_parts(district, others), f"«{self._typed(*run)}» é o bairro")
        if runs:
            said = ", ".join(f"«{self._typed(*run)}»" for run in runs)
            yield Proposal(self._with_parts(base, runs), f"{said} é complemento")
            yield Proposal(base, f"sem {said}")
        else:
            yield Proposal(base, "o que foi entendido")

    def _with_parts(self, address: Address, runs: list[tuple[int, int]]) -> Address:
        added = [standard.named_unit(self._tokens, *run) for run in runs]
        return replace(address, complemento=standard.joined(filter(None, [address.complemento, *added])))

    def _typed(self, start: int, end: int) -> str:
        last = end - 1
        return self._tokens.text[self._tokens.starts[start] : self._tokens.starts[last] + len(self._tokens.words[last])]

    def _pieces(self) -> Iterator[Part]:
        tokens, at = self._tokens, 0
        written = 0
        while at < tokens.size:
            end = at + 1
            while end < tokens.size and self._marks[end] == self._marks[at]:
                end += 1
            if tokens.starts[at] > written:
                yield Part(tokens.text[written : tokens.starts[at]], APART)
            typed = self._typed(at, end)
            yield Part(typed, _FIELD[self._marks[at]])
            written, at = tokens.starts[at] + len(typed), end
        if written < len(tokens.text):
            yield Part(tokens.text[written:], APART)


def inferred(text: str, address: Address) -> tuple[str, ...]:
    """Return what of the address the text does not carry: fields of it, and "tipo" for a type nobody typed."""
    typed = set(Tokens(clean(text)[:MAX_CHARS]).keys)
    absent = [found.field for found in violations(text, address) if found.problem in _UNSAID]
    values = address.as_dict()
    unsaid = [name for name in absent if (value := values[name]) and not typed.issuperset(Tokens(value).keys)]
    return tuple(dict.fromkeys([*deduced(text, address), *unsaid]))


# -- a clinic's own words ---------------------------------------------------------------------------------------------

DISTRICT: Final = "bairro"  # what an address has by such a word, as its `deduzido` says
_LONGEST: Final = 40


@dataclass(frozen=True, slots=True)
class ClinicWord:
    """In this city, `short` (folded) stands for the district `long`."""

    state: str
    city: str
    short: str
    long: str


def lesson(text: str, address: Address) -> ClinicWord | None:
    """Return the short name that a person spelled out by answering `text` with `address`; None where there is none."""
    long = address.bairro or ""
    for run in Doubt(text).left:
        short = phrase_key(run.replace(".", " "))
        if len(short) <= _LONGEST and _is_short_for(short.split(), phrase_key(long).split()):
            return ClinicWord(address.estado, address.cidade, short, long)
    return None


def _is_short_for(short: list[str], long: list[str]) -> bool:
    """Is each word the beginning of one of the name's, in order, and not all of the name said."""
    at = 0
    for word in short:
        while at < len(long) and not long[at].startswith(word):
            at += 1
        if at == len(long):
            return False
        at += 1
    said = [word for word in long if word not in lx.PREPOSITIONS]
    return bool(short) and short not in (long, said)


class Taught:
    """The words of a clinic, as they are now."""

    def __init__(self, words: Iterable[ClinicWord] = ()) -> None:
        self._long: dict[tuple[str, str, str], str] = {}
        self.learn(words)

    def learn(self, words: Iterable[ClinicWord]) -> None:
        """These are all of them from now on."""
        self._long = {(word.state, word.city, word.short): word.long for word in words}

    def read(self, text: str) -> Settled[Address] | None:
        """Return the address of a text that the rules leave open, if such a word is all that stands in the way."""
        if not self._long:
            return None
        doubt = Doubt(text)
        place = doubt.known.get("estado", ""), doubt.known.get("cidade", "")
        for run in doubt.left:
            long = self._long.get((*place, phrase_key(run.replace(".", " "))))
            if long is not None:
                decision = parse_address(doubt.text.replace(run, long, 1))
                if isinstance(decision, Settled) and decision.value.bairro == long:
                    return replace(decision, inferred=(*decision.inferred, DISTRICT))
        return None
