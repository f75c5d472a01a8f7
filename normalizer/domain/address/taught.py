"""A clinic's own words: how its people shorten the names of districts, city by city. Learned from what they decided.

They are asked only where the rules leave a text open, and only of a run of words that no field explains: no text that
is read today is read otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from normalizer.domain.address import lexicon as lx
from normalizer.domain.address.doubts import Doubt
from normalizer.domain.address.rules import parse_address
from normalizer.domain.address.value import Address
from normalizer.domain.address.words import phrase_key
from normalizer.domain.decision import Settled

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
