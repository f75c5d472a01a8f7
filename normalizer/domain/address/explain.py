"""Explanation of a reading by the rules, step by step: tokens, marks of each pass, readings with scores, objections."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from normalizer.domain.address import marks as mk
from normalizer.domain.address import tokens as tk
from normalizer.domain.address import weights
from normalizer.domain.address.cells import alternatives
from normalizer.domain.address.evidence import Evidence
from normalizer.domain.address.grounding import check
from normalizer.domain.address.passes import PASSES
from normalizer.domain.address.rules import parse_address, readings
from normalizer.domain.address.tokens import Tokens
from normalizer.domain.address.words import WORDS
from normalizer.domain.decision import Settled, Undecided

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from normalizer.domain.address.readings import Reading
    from normalizer.domain.address.value import Address

_MARKS: Final = {
    mk.LABEL: "rótulo",
    mk.DROPPED: "fora do endereço",
    mk.POSTCODE: "CEP",
    mk.STATE: "UF",
    mk.CITY: "município",
    mk.STREET: "logradouro",
    mk.NUMBER: "número (S/N)",
    mk.UNIT: "parte de complemento",
    mk.DISTRICT: "nome de bairro",
}
_KINDS: Final = {tk.WORD: "palavra", tk.NUM: "número", tk.CEP: "CEP", tk.PHONE: "fone", tk.NOISE: "ruído"}
_GAPS: Final = {tk.GLUED: "", tk.BLANK: " ", tk.HYPHEN: "-", tk.SLASH: "/", tk.HARD: "|"}
_PROBLEMS: Final = {
    "invented": "não está no texto",
    "wrong kind": "é outra coisa no texto",
    "conflict": "contradiz o resto do endereço",
    "claimed twice": "só está no texto como parte de outro campo",
    "omitted": "o texto diz mais do que o endereço",
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
    tokens = Tokens(part[: tk.MAX_CHARS])
    evidence = Evidence(tokens, bytearray(tokens.size))
    steps = [_step(evidence, mark) for mark in PASSES if tokens.size]
    tried = (readings(evidence) if tokens.size else None) or []
    result, inferred, reason = _result(parse_address(text))
    return Explanation(
        texto=part,
        tokens=tuple(_token(tokens, at) for at in range(tokens.size)),
        passos=tuple(filter(_marked_any, steps)),
        leituras=tuple(_candidate(tokens, reading) for reading in tried),
        margem=_margin(tried),
        margem_minima=weights.MARGIN,
        objecoes=tuple(_objections(evidence, tried)),
        resultado=result,
        deduzido=inferred,
        motivo=reason,
    )


def _result(
    decision: Settled[Address] | Undecided,
) -> tuple[dict[str, str | None] | None, tuple[str, ...], str | None]:
    if isinstance(decision, Settled):
        return decision.value.as_dict(), decision.inferred, None
    return None, (), decision.reason.value


def _marked_any(step: Step) -> bool:
    return bool(step.marcou)


def _objections(evidence: Evidence, tried: list[Reading]) -> Iterator[tuple[str, str]]:
    """Yield what grounding has against the best reading."""
    best = next((reading.address for reading in tried if reading.address is not None), None)
    for found in check(evidence, best) if best is not None else ():
        yield found.field, _PROBLEMS[found.problem.value]


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
            yield " ".join(evidence.tokens.words[at:end]), _MARKS[marks[at]]
        at = max(end, at + 1)


def _candidate(tokens: Tokens, reading: Reading) -> Candidate:
    place, start = reading.place, reading.start
    return Candidate(
        cidade=f"{place.name}/{place.uf}",
        rua=f"{start.kind} {tokens.words[start.name]}".strip() + " …",
        pontos=round(reading.score, 2),
        endereco=reading.address.as_dict() if reading.address else None,
        motivo=None if reading.address else reading.reason.value,
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
