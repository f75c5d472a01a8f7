"""Doubts about a text that the rules leave open: what is understood, what is left, how it may be read.

Nothing here decides. `inferred` tells what of a proposal the text does not carry; whoever chooses it answers for that.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from normalizer.domain import gazetteer
from normalizer.domain.address import marks as mk
from normalizer.domain.address import standard
from normalizer.domain.address.cells import alternatives
from normalizer.domain.address.deduced import deduced
from normalizer.domain.address.districts import chunks
from normalizer.domain.address.grounding import ViolationKind, violations
from normalizer.domain.address.passes import gather
from normalizer.domain.address.rules import parse_address, readings
from normalizer.domain.address.tokens import MAX_CHARS, NUM, WORD, Tokens
from normalizer.domain.address.value import FIELDS, Address
from normalizer.domain.decision import Reason, Undecided
from normalizer.domain.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What a part of a text is when it is none of an address's fields.
LEFT, APART = "duvida", "fora"
_FIELD: Final = {
    mk.FREE: LEFT, mk.LABEL: APART, mk.DROPPED: APART, mk.POSTCODE: "cep", mk.STATE: "estado", mk.CITY: "cidade",
    mk.STREET: "rua", mk.NUMBER: "numero", mk.UNIT: "complemento", mk.DISTRICT: "bairro",
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
        self._tokens = Tokens(self._cells[0][:MAX_CHARS])
        evidence = gather(self._tokens)
        self._tried = (readings(evidence) if self._tokens.size else None) or []
        self._best = self._tried[0] if self._tried else None
        self._marks = bytearray(self._best.marks if self._best else evidence.marks)
        self._cep = standard.cep(evidence.ceps[0]) if len(evidence.ceps) == 1 else None
        self._cep_uf = evidence.cep_ufs[0] if evidence.cep_ufs else None

    @property
    def text(self) -> str:
        """The text as it is read: the first address of the cell."""
        return self._tokens.text

    @property
    def cep_uf(self) -> str | None:
        """The state of the text's CEP."""
        return self._cep_uf

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
            if self._cep_uf in {None, best.place.uf}:
                read["cep"] = self._cep
        return {name: value for name in FIELDS if (value := read.get(name))}

    @property
    def left(self) -> tuple[str, ...]:
        """The runs of words that no field explains, as typed."""
        return tuple(self._typed(*chunk) for chunk in self._chunks())

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
        runs = self._chunks()
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

    def _chunks(self) -> list[tuple[int, int]]:
        return chunks(self._tokens, self._marks)

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
