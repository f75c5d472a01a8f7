"""Redaction of an address text for the model: no word leaves but those that say what a part of an address is.

A list of names would never be complete, so it is the other way round: words of the word list ("Rua", "bloco",
"Jardim"; `domain/address/words`), siglas of states, single letters and numbers of an address go out. Every other run of
words goes out as "#A", "#B", …, whatever it names, and the likeliest town as "#CITY"; a model may put a placeholder
into a field, and its words are put back here before the answer is grounded. A number goes with the words before it
where these are no part of an address that carries numbers, and it is not the first: an age, a date, a card.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import product
from string import ascii_uppercase
from typing import TYPE_CHECKING, Final, NamedTuple

from normalizer.domain import gazetteer
from normalizer.domain.address import lexicon as lx
from normalizer.domain.address import towns
from normalizer.domain.address.passes import gather
from normalizer.domain.address.places import places, states
from normalizer.domain.address.tokens import CEP, GLUED, HARD, MAX_CHARS, NUM, WORD, Tokens
from normalizer.llm.privacy import stripped

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from normalizer.domain.address.evidence import Evidence

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
# What carries a code of a letter and a number, as "F32"; behind other words that may be a diagnosis.
_UNITS: Final = {word for word, unit in lx.UNIT_WORDS.items() if unit not in lx.VALUELESS_UNITS}
_CODED: Final = lx.STREET_TYPES.keys() | lx.BUILDING_WORDS.keys() | lx.SECTORS | _UNITS
# What begins a run of its own, so that a street's name and a remark behind it do not share a placeholder.
_REMARKS: Final = (lx.PERSON_WORDS | lx.NOTE_WORDS | lx.REFERENCE_WORDS | lx.LEAD_WORDS) - lx.PREPOSITIONS
_LETTERS: Final = 3  # of a placeholder at most: more of them than words in the longest text
CITY: Final = "#CITY"  # stands for what the gazetteer knows as a town; a model need not guess
PLACEHOLDER: Final = re.compile(rf"(?:{CITY}|#[A-Z]{{1,{_LETTERS}}})(?![A-Za-z])")


class Known(NamedTuple):
    """Tokens that stay, what is written for them, and what that means where it is not their words."""

    start: int
    end: int
    written: str
    means: str = ""


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


def redact(text: str, *, withheld: frozenset[str] = frozenset()) -> Redacted:
    """Return what of a cleaned address text may leave.

    Args:
        text: an address as typed, cleaned.
        withheld: numbers that stay here even where an address could consist of them.
    """
    tokens = Tokens(stripped(text, withheld=withheld)[:MAX_CHARS])
    kept: list[tuple[str, str]] = []
    written: list[str] = []
    at = 0
    for run in _runs(gather(tokens)):
        first, last = tokens.starts[run.start], tokens.starts[run.end - 1] + len(tokens.words[run.end - 1])
        written += [tokens.text[at:first], run.written]
        kept.append((run.written, run.means or tokens.text[first:last]))
        at = last
    return Redacted("".join([*written, tokens.text[at:]]), tuple(kept))


def _known(evidence: Evidence) -> dict[int, Known]:
    """Return the likeliest town and the states, by where they begin: what a model need not recognise."""
    tokens = evidence.tokens
    last = Known(_last_town(tokens), tokens.size, CITY)
    town = next((Known(place.start, place.end, CITY, place.name) for place in places(evidence)), last)
    if town.end == last.end:
        town = min(town, last)  # "Aparecida de Goiânia"
    named = [state for state in states(evidence) if state.end <= town.start or state.start >= town.end]
    named = [state for state in named if not state.spelled or _is_apart(tokens, state.start, town.end)]
    siglas = [state for state in named if not state.spelled]
    known = [town, *(Known(state.start, state.end, state.uf) for state in siglas or named[-1:])]
    return {each.start: each for each in known}


def _is_apart(tokens: Tokens, at: int, town_end: int) -> bool:
    """Whether a state's name stands where a state stands: "Bahia" is somebody's name, too."""
    return tokens.gaps[at] == HARD or at == town_end or tokens.kinds[at - 1] == CEP


def _runs(evidence: Evidence) -> Iterator[Known]:
    """Yield what stays, run by run, each with what is written for it."""
    tokens, known, names = evidence.tokens, _known(evidence), placeholders()
    at, numbered = 0, evidence.no_number >= 0
    while at < tokens.size:
        if at in known:
            yield known[at]
            at = known[at].end
        elif _leaves(tokens, at):
            numbered = numbered or _may_be_house(tokens, at)
            at += 1
        else:
            end = _run_end(tokens, at, known, numbered)
            yield Known(at, end, next(names))
            at = end


def _may_be_house(tokens: Tokens, at: int) -> bool:
    """Whether the number is none that the word before it asks for: a street's, a flat's."""
    if tokens.kinds[at] != NUM or at == 0:
        return False
    return tokens.gaps[at] == HARD or not _leaves(tokens, at - 1) or tokens.keys[at - 1] in lx.NUMBER_WORDS


def _run_end(tokens: Tokens, start: int, known: Mapping[int, Known], numbered: bool) -> int:
    """Return where the words end that stay, with the prepositions between them and the numbers behind them."""
    end = at = start + 1
    while at < tokens.size and tokens.gaps[at] != HARD and at not in known and tokens.keys[at] not in _REMARKS:
        if not _leaves(tokens, at) or (numbered and _is_value(tokens, at)):
            end = at + 1
        elif tokens.keys[at] not in lx.PREPOSITIONS:
            break
        at += 1
    return end


def _is_value(tokens: Tokens, at: int) -> bool:
    """Whether a number, or a letter no word follows, says more of the words before it."""
    last = at + 1 == tokens.size or tokens.gaps[at + 1] == HARD or tokens.kinds[at + 1] != WORD
    return tokens.kinds[at] == NUM or (len(tokens.keys[at]) == 1 and last)


def _leaves(tokens: Tokens, at: int) -> bool:
    """Say of a token whether it may leave."""
    kind, key = tokens.kinds[at], tokens.keys[at]
    if kind != WORD:
        return kind in {NUM, CEP}
    if len(key) == 1 and tokens.is_number(at + 1) and tokens.gaps[at + 1] == GLUED:
        return at > 0 and tokens.gaps[at] != HARD and tokens.keys[at - 1] in _CODED
    return key in _SENT or len(key) == 1


def _last_town(tokens: Tokens) -> int:
    """Return where the municipality begins that the text ends with; past the end where there is none."""
    first = max(tokens.hard_start(tokens.size - 1), tokens.size - gazetteer.MAX_NAME_WORDS) if tokens.size else 0
    starts = (at for at in range(first, tokens.size) if gazetteer.municipalities(tokens.phrase(at, tokens.size)))
    return next(starts, tokens.size)


def placeholders() -> Iterator[str]:
    """Yield the placeholders in their order: #A … #Z, #AA …"""
    for letters in range(1, _LETTERS + 1):
        yield from (f"#{''.join(name)}" for name in product(ascii_uppercase, repeat=letters))
