"""Redaction of an address text for the model: only words an address can consist of go; the rest becomes placeholders.

A list of names would never be complete, so it is the other way round: numbers go out, the words that have a role in an
address (`domain/address/words`), the city and state, and the words between a street's type and the next separator.
Every other run of words, a district's name or a person's, goes out as "#A", "#B", …; a model may put a placeholder
into a field, and its words are put back here before the answer is grounded. A town at the end goes out as "#CITY".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import product
from string import ascii_uppercase
from typing import TYPE_CHECKING, Final

from normalizer.domain import gazetteer
from normalizer.domain.address import lexicon as lx
from normalizer.domain.address import towns
from normalizer.domain.address.marks import FREE
from normalizer.domain.address.passes import gather
from normalizer.domain.address.places import places, states
from normalizer.domain.address.streets import at_street
from normalizer.domain.address.tokens import HARD, MAX_CHARS, NUM, WORD, Tokens
from normalizer.llm.privacy import PatientData, stripped

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from normalizer.domain.address.evidence import Evidence

    Span = tuple[int, int]

# The words that say nothing of a person.
_SENT: Final = frozenset(
    lx.STREET_TYPES.keys()
    | lx.OPENING_TYPES.keys()
    | lx.DISTRICT_WORDS.keys()
    | lx.BUILDING_WORDS.keys()
    | lx.UNIT_WORDS.keys()
    | {label for label, field in lx.LABELS.items() if field != lx.OTHER_FIELD}
    | lx.NUMBER_WORDS
    | lx.NO_NUMBERS
    | lx.NONE_WORDS
    | lx.PREPOSITIONS
    | lx.SIDES
    | lx.MONTHS
    | lx.ROMAN
    | lx.CENTRE
    | lx.CORNERS
    | lx.COUNTED
    | lx.NO_STREETS
    | lx.NUMBERED_STREET_WORDS
    | lx.DISTRICT_QUALIFIERS
    | lx.STATE_WORDS
    | lx.TOWN_NAMES
    | towns.ALL_CODES
)
# What ends a street's name although no separator stands before it.
_NEVER_STREETS: Final = lx.PERSON_WORDS | lx.NOTE_WORDS | lx.CORNERS | lx.REFERENCE_WORDS | lx.LEAD_WORDS
_LONGEST_STREET: Final = 8
_PLACES: Final = 2  # the likeliest cities
_LETTERS: Final = 3  # of a placeholder at most: more of them than words in the longest text
CITY: Final = "#CITY"  # stands for what the gazetteer knows as a town; a model need not guess
PLACEHOLDER: Final = re.compile(rf"(?:{CITY}|#[A-Z]{{1,{_LETTERS}}})(?![A-Za-z])")


@dataclass(frozen=True, slots=True)
class Redacted:
    """A text as it may leave the machine, and the words that stay here, each with its placeholder."""

    text: str
    kept: tuple[tuple[str, str], ...] = ()

    def restored(self, segments: Mapping[str, str | None]) -> dict[str, str | None]:
        """Return an answer's fields with the words put back that its placeholders stand for."""
        words = dict(self.kept)
        return {
            name: PLACEHOLDER.sub(lambda found: words.get(found[0], found[0]), value) if value else value
            for name, value in segments.items()
        }


def redact(text: str, *, withheld: PatientData | None = None) -> Redacted:
    """Return what of a cleaned address text may leave.

    Args:
        text: an address as typed, cleaned.
        withheld: what must not leave even where an address could consist of it.
    """
    tokens = Tokens(stripped(text, withheld=withheld)[:MAX_CHARS])
    kept: list[tuple[str, str]] = []
    written: list[str] = []
    at, town = 0, _last_town(tokens)
    names = placeholders()
    for start, end in _runs(tokens, _sent(gather(tokens), town), town):
        first, last = tokens.starts[start], tokens.starts[end - 1] + len(tokens.words[end - 1])
        name = CITY if start == town else next(names)
        written += [tokens.text[at:first], name]
        kept.append((name, tokens.text[first:last]))
        at = last
    return Redacted("".join([*written, tokens.text[at:]]), tuple(kept))


def _sent(evidence: Evidence, town: int) -> bytearray:
    """Say of each token whether it may leave; what may be the `town` at the end leaves whole or not at all."""
    tokens = evidence.tokens
    sent = bytearray(
        kind != WORD or key in _SENT or len(key) == 1 for key, kind in zip(tokens.keys, tokens.kinds, strict=True)
    )
    spans = [(state.start, state.end) for state in states(evidence)]
    spans += [(place.start, place.end) for place in places(evidence)[:_PLACES]]
    spans += [(at, _street_end(evidence, at)) for at in range(tokens.size) if at_street(tokens, at)]
    for start, end in spans:
        sent[start:end] = b"\1" * (end - start)
    return sent if all(sent[town:]) else sent[:town] + bytes(tokens.size - town)


def _street_end(evidence: Evidence, at: int) -> int:
    """Return where the name of the street that begins at `at` ends: at a separator, a number, or what is no name."""
    tokens = evidence.tokens
    end = at + 1
    while (
        end < min(tokens.size, at + _LONGEST_STREET)
        and (tokens.gaps[end] != HARD or (end == at + 1 and tokens.colons[at]))
        and tokens.kinds[end] != NUM
        and (end == at + 1 or not _ends_street(evidence, end))
    ):
        end += 1
    return end


def _ends_street(evidence: Evidence, at: int) -> bool:
    tokens = evidence.tokens
    key = tokens.keys[at]
    if evidence.marks[at] != FREE or key in _NEVER_STREETS or lx.LABELS.get(key) == lx.OTHER_FIELD:
        return True
    other = key in lx.STRONG_STARTERS or key in lx.UNIT_WORDS or key in lx.BUILDING_WORDS or key in lx.BY_NAME
    return other and len(key) > 1 and tokens.keys[at - 1] not in lx.PREPOSITIONS


def _last_town(tokens: Tokens) -> int:
    """Return where the municipality begins that the text ends with; past the end where there is none."""
    first = max(tokens.hard_start(tokens.size - 1), tokens.size - gazetteer.MAX_NAME_WORDS) if tokens.size else 0
    starts = (at for at in range(first, tokens.size) if gazetteer.municipalities(tokens.phrase(at, tokens.size)))
    return next(starts, tokens.size)


def _runs(tokens: Tokens, sent: bytearray, town: int) -> Iterator[Span]:
    """Yield the runs of words that stay, with the prepositions between them; the town at the end is one of its own."""
    at = 0
    while at < tokens.size:
        if sent[at]:
            at += 1
            continue
        end = following = at + 1
        while following < tokens.size and tokens.gaps[following] != HARD and following != town:
            if not sent[following]:
                end = following + 1
            elif tokens.keys[following] not in lx.PREPOSITIONS:
                break
            following += 1
        yield at, end
        at = end


def placeholders() -> Iterator[str]:
    """Yield the placeholders in their order: #A … #Z, #AA …"""
    for letters in range(1, _LETTERS + 1):
        yield from (f"#{''.join(name)}" for name in product(ascii_uppercase, repeat=letters))
