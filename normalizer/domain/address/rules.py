"""Reading an address by rules alone: right or silent.

Evidence marks single tokens, `places` and `readings.starts` name the candidates, every pair of them is read and scored,
and the best reading is taken only when it is good enough, and clearly better than any that says something else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from normalizer.domain import gazetteer
from normalizer.domain.address import lexicon as lx
from normalizer.domain.address import weights
from normalizer.domain.address.cells import alternatives
from normalizer.domain.address.deduced import STATE, TYPE
from normalizer.domain.address.grounding import check
from normalizer.domain.address.marks import FREE
from normalizer.domain.address.passes import gather
from normalizer.domain.address.places import places, states
from normalizer.domain.address.readings import Reading, read
from normalizer.domain.address.second_look import second_look
from normalizer.domain.address.sectors import starts
from normalizer.domain.address.streets import at_street
from normalizer.domain.address.tokens import MAX_CHARS, NUM, WORD, Tokens
from normalizer.domain.decision import Reason, Settled, Undecided

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normalizer.domain.address.evidence import Evidence
    from normalizer.domain.address.postal import PostalBase
    from normalizer.domain.address.value import Address

_PLACES_TRIED: Final = 4
# What a base may decide: which words are street, district and city. It knows nothing of numbers.
_PLACED: Final = frozenset(
    {
        Reason.DISTRICT_AMBIGUOUS,
        Reason.ADDRESS_AMBIGUOUS,
        Reason.TEXT_UNEXPLAINED,
        Reason.STREET_UNKNOWN,
        Reason.NOT_GROUNDED,
    }
)


def parse_address(text: str, base: PostalBase | None = None) -> Settled[Address] | Undecided:
    """Read the address in `text` by rules alone. Total: never raises, whatever the text.

    `base` decides what the rules leave open, and nothing else (`second_look`).
    """
    parts = alternatives(text)
    for part in parts[:-1]:
        decision = _parse(part, base)
        if isinstance(decision, Settled) or _names_a_street(part):
            return decision  # the first address counts, even when it cannot be settled
    return _parse(parts[-1], base)


def _names_a_street(text: str) -> bool:
    tokens = Tokens(text)
    return any(at_street(tokens, at) for at in range(tokens.size))


def _parse(text: str, base: PostalBase | None) -> Settled[Address] | Undecided:
    if not text:
        return Undecided(Reason.ADDRESS_MISSING)
    if len(text) > MAX_CHARS:
        return Undecided(Reason.TEXT_TOO_LONG)
    tokens = Tokens(text)
    refused = _refused_outright(tokens)
    if refused is not None:
        return Undecided(refused)
    evidence = gather(tokens)
    decision = _read(evidence)
    if base is None or isinstance(decision, Settled):
        return decision
    return decision if decision.reason not in _PLACED else _confirmed(evidence, base) or decision


def _read(evidence: Evidence) -> Settled[Address] | Undecided:
    found = readings(evidence)
    if found is None:
        return Undecided(_why_no_place(evidence))
    decision = _decide(found)
    if isinstance(decision, Settled) and check(evidence, decision.value):
        return Undecided(Reason.NOT_GROUNDED, _understood(decision.value))
    return decision


def _confirmed(evidence: Evidence, base: PostalBase) -> Settled[Address] | None:
    """Return the one reading in which street and district are those of a row of the base; None if there is none."""
    held = list(_held(evidence, base))
    return held[0] if held and all(each.value == held[0].value for each in held) else None


def _held(evidence: Evidence, base: PostalBase) -> Iterator[Settled[Address]]:
    for sight, shown in second_look(evidence, base):
        decision = _read(shown)
        if isinstance(decision, Settled) and sight.holds(decision.value):
            yield decision


def _refused_outright(tokens: Tokens) -> Reason | None:
    size = tokens.size
    whole = tokens.phrase(0, size)
    if size == 0 or whole in lx.NULL_SLOTS:
        return Reason.ADDRESS_MISSING
    if not whole.isascii():
        return Reason.ADDRESS_JUNK
    if size < 4:
        return Reason.ADDRESS_JUNK
    if tokens.phrase(tokens.hard_start(size - 1), size) in lx.COUNTRIES or not lx.FOREIGN_WORDS.isdisjoint(
        tokens.vocabulary
    ):
        return Reason.ADDRESS_FOREIGN
    return None


def _why_no_place(evidence: Evidence) -> Reason:
    tokens = evidence.tokens
    if evidence.ordered or not any(at_street(tokens, at) or tokens.kinds[at] == NUM for at in range(tokens.size)):
        return Reason.ADDRESS_JUNK
    if not any(mark == FREE and kind == WORD for mark, kind in zip(evidence.marks, tokens.kinds, strict=True)):
        return Reason.ADDRESS_JUNK
    return Reason.CITY_STATE_CONFLICT if _city_of_another_state(evidence) else Reason.CITY_UNKNOWN


def _city_of_another_state(evidence: Evidence) -> bool:
    tokens = evidence.tokens
    return any(
        gazetteer.municipalities(tokens.phrase(start, state.start))
        for state in states(evidence)
        for start in range(max(0, state.start - gazetteer.MAX_NAME_WORDS), state.start)
    )


def readings(evidence: Evidence) -> list[Reading] | None:
    """Return every reading that is tried, the best first; None when the text names no city."""
    candidates = places(evidence)[:_PLACES_TRIED]
    found = [read(evidence, place, start) for place in candidates for start in starts(evidence, place)]
    found.sort(key=lambda reading: (reading.address is None, -reading.score))
    return found if candidates else None


def _decide(tried: list[Reading]) -> Settled[Address] | Undecided:
    if not tried:
        return Undecided(Reason.STREET_UNKNOWN)
    best = tried[0]
    if best.address is None:
        return Undecided(best.reason, best.understood)
    rivals = (other for other in tried[1:] if other.address is not None and other.address != best.address)
    if best.score < weights.ENOUGH or any(best.score - rival.score < weights.MARGIN for rival in rivals):
        return Undecided(Reason.ADDRESS_AMBIGUOUS, _understood(best.address))
    return Settled(best.address, inferred=_inferred(best))


def _inferred(reading: Reading) -> tuple[str, ...]:
    kind = (TYPE,) if reading.start.untyped else ()
    return kind if reading.place.state is not None else (*kind, STATE)


def _understood(address: Address) -> dict[str, str]:
    return {name: value for name, value in address.as_dict().items() if value}
