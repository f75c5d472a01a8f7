"""Where a text may name its city and state: every candidate with how well it is supported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from normalizer.domain import gazetteer
from normalizer.domain.address import lexicon as lx
from normalizer.domain.address.marks import DROPPED, FREE, LABEL, POSTCODE, STATE
from normalizer.domain.address.tokens import CEP, HARD, NUM, WORD, Tokens

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normalizer.domain.address.evidence import Evidence

_STATE_NAMES: Final = {tuple(gazetteer.name_key(name).split()): uf for uf, name in gazetteer.UF_NAMES.items()}
_STATE_OPENERS: Final = frozenset({"estado", *(words[0] for words in _STATE_NAMES)})
_LONGEST: Final = gazetteer.MAX_NAME_WORDS
# Municipalities whose name is a quarter's name all over the country: never taken for the city on their own.
_QUARTER_NAMES: Final = frozenset(
    {"bela vista", "boa vista", "santa monica", "planalto", "paraiso", "primavera", "floresta", "centenario"}
    | {"liberdade", "independencia", "progresso", "esperanca", "vista alegre", "alvorada", "cruzeiro", "guarani"}
    | {"industrial", "tropical", "florida", "olimpia"}
)
# Capitals whose name is hardly ever a quarter's or a person's: as a text's last words they are the city.
_PLAIN_CAPITALS: Final = {
    gazetteer.name_key(gazetteer.CAPITALS[uf]): uf
    for uf in ("AL", "AM", "AP", "CE", "GO", "MG", "MT", "PE", "PI", "PR", "RS", "SC", "SE")
}
_PLAIN_NICKNAMES: Final = frozenset({"floripa", "fpolis", "sampa", "belo hte"})  # nothing else is called so
# First three digits of CEPs that belong to a capital alone (Correios), for "…, bairro, São Paulo".
_CAPITAL_CEPS: Final = {"SP": ((10, 59), (80, 84)), "RJ": ((200, 237),), "MG": ((300, 319),)}


class State(NamedTuple):
    """A state named by the tokens [start, end)."""

    start: int
    end: int
    uf: str
    spelled: bool


class Place(NamedTuple):
    """A city (tokens [start, end)) and its state, with the strength of the evidence for it."""

    start: int
    end: int
    state: State | None
    name: str
    uf: str
    score: float


def states(evidence: Evidence) -> list[State]:
    """Return every state the text may name, siglas and names."""
    if evidence.states is None:
        evidence.states = _find_states(evidence)
    return evidence.states


def _find_states(evidence: Evidence) -> list[State]:
    tokens, marks = evidence.tokens, evidence.marks
    found: list[State] = []
    read_to = 0
    for at, key in enumerate(tokens.keys):
        length = len(key)
        if (length > 2 and key not in _STATE_OPENERS) or at < read_to:
            continue
        if marks[at] != FREE or tokens.kinds[at] != WORD:
            continue
        if length == 2:
            state = _sigla(tokens, at)
        elif length == 1:
            state = _dotted(tokens, at)
        else:
            state = _spelled(evidence, at)
        if state is not None:
            found.append(state)
            read_to = state.end
    return found


def _sigla(tokens: Tokens, at: int) -> State | None:
    uf = tokens.keys[at].upper()
    if uf not in gazetteer.UF_NAMES:
        return None
    following = at + 1
    if (
        following < tokens.size
        and tokens.kinds[following] == NUM
        and tokens.gaps[following] < HARD
        and len(tokens.keys[following]) < 5
    ):
        return None  # a road, "SP 330", or a unit, "AP 12"
    return State(at, following, uf, spelled=False)


def _dotted(tokens: Tokens, at: int) -> State | None:
    if at + 1 >= tokens.size or not tokens.dots[at] or len(tokens.keys[at + 1]) != 1 or tokens.gaps[at + 1] == HARD:
        return None
    uf = (tokens.keys[at] + tokens.keys[at + 1]).upper()
    ends = at + 2 == tokens.size or tokens.gaps[at + 2] == HARD or tokens.kinds[at + 2] == CEP
    return State(at, at + 2, uf, spelled=False) if uf in gazetteer.UF_NAMES and ends else None


def _spelled(evidence: Evidence, at: int) -> State | None:
    tokens = evidence.tokens
    start = at
    if tokens.keys[at] == "estado":
        at += 1
        while at < tokens.size and tokens.keys[at] in {"de", "da", "do", "e"}:
            at += 1
    for length in range(4, 0, -1):
        end = at + length
        if end <= tokens.size and (uf := _STATE_NAMES.get(tuple(tokens.keys[at:end]))):
            if any(tokens.gaps[i] == HARD for i in range(at + 1, end)) or evidence.marks[end - 1] != FREE:
                continue
            return State(start, end, uf, spelled=True)
    sigla = tokens.keys[at].upper() if start < at < tokens.size else ""
    if sigla in gazetteer.UF_NAMES:
        return State(start, at + 1, sigla, spelled=True)
    return None


def places(evidence: Evidence) -> list[Place]:
    """Return the candidates for city and state, best supported first."""
    found: list[Place] = []
    named = states(evidence)
    for state in named:
        found.extend(_before_state(evidence, state))
    if not found:
        for state in named:
            found.extend(_after_state(evidence, state))
    if not any(place.score >= 5 for place in found) or any(state.spelled for state in named):
        found.extend(_alone(evidence, named))
    found.sort(key=lambda place: -place.score)
    return found


def _before_state(evidence: Evidence, state: State) -> Iterator[Place]:
    tokens, marks = evidence.tokens, evidence.marks
    last = state.start - 1
    while last >= 0 and marks[last] in (POSTCODE, LABEL):
        last -= 1
    if last < 0 or marks[last] != FREE or tokens.kinds[last] != WORD:
        return
    score = 4.0 + _tail_bonus(evidence, state.end) + _cep_bonus(evidence, state.uf)
    if evidence.labelled.get(state.start) == "estado":
        score += 1
    if state.start > 0 and tokens.gaps[state.start] == HARD and not state.spelled:
        score += 0.2
    in_capital = state.spelled and _in_capital(evidence, state.uf)
    for start, name, quality in cities_ending(evidence, last + 1, state.uf):
        if in_capital and name != gazetteer.CAPITALS[state.uf]:
            continue  # "…, Socorro, São Paulo" with a CEP of the capital: Socorro is its quarter
        yield Place(start, last + 1, state, name, state.uf, score + quality)


def cities_ending(evidence: Evidence, end: int, uf: str) -> Iterator[tuple[int, str, float]]:
    """Yield (start, official name, quality) of the cities of `uf` that the tokens before `end` spell."""
    tokens, marks = evidence.tokens, evidence.marks
    longest = 0
    for length in range(1, _LONGEST + 1):
        start = end - length
        if start < 0 or marks[start] != FREE or tokens.kinds[start] != WORD:
            break
        key = tokens.phrase(start, end)
        name = gazetteer.municipalities(key).get(uf)
        if name is not None:
            longest = length
            yield start, name, 0.8 * length + _opens_field(evidence, start)
        elif length <= 4 and (known := gazetteer.nickname(key)) is not None and known.uf == uf:
            yield start, known.name, 0.6 * length + _opens_field(evidence, start)
        if tokens.gaps[start] == HARD:
            break
    if not longest or _short_before(evidence, end - longest):
        yield from (city for city in _abbreviated(evidence, end, uf) if end - city[0] > longest)


def _short_before(evidence: Evidence, at: int) -> bool:
    """Does a short word stand before a city's name that may belong to it: "B. Camboriú"."""
    tokens = evidence.tokens
    return evidence.free(at - 1) and tokens.gaps[at] != HARD and tokens.keys[at - 1] in lx.CITY_SHORTS


def _opens_field(evidence: Evidence, at: int) -> float:
    if evidence.labelled.get(at) == "cidade":
        return 2.0
    return 0.5 if evidence.tokens.gaps[at] == HARD else 0.0


def _abbreviated(evidence: Evidence, end: int, uf: str) -> list[tuple[int, str, float]]:
    """Return the city of `uf` whose name is written short before `end`: "S. J. do Rio Preto". None if several fit."""
    tokens = evidence.tokens
    matches: dict[str, int] = {}
    for words, place in gazetteer.ending_with(tokens.keys[end - 1]):
        if place.uf == uf:
            start = _match_short(evidence, words, end)
            if start is not None:
                matches[place.name] = start
    if not matches:
        return []
    first = min(matches.values())
    longest = [name for name, start in matches.items() if start == first]
    if len(longest) != 1:
        return []
    return [(first, longest[0], 0.8 * (end - first) - 0.3 + _opens_field(evidence, first))]


def _match_short(evidence: Evidence, words: tuple[str, ...], end: int) -> int | None:
    tokens = evidence.tokens
    at, left = end - 1, len(words) - 1
    shortened = 0
    while left >= 0:
        word = words[left]
        if (
            at >= 0
            and evidence.free(at)
            and (at == end - 1 or tokens.gaps[at + 1] != HARD)
            and _may_be(tokens, at, word)
        ):
            shortened += tokens.keys[at] != word
            at -= 1
        elif word not in lx.PREPOSITIONS:
            return None
        left -= 1
    return at + 1 if shortened else None


def _may_be(tokens: Tokens, at: int, word: str) -> bool:
    key = tokens.keys[at]
    if key == word:
        return True
    if word in lx.CITY_SHORTS.get(key, ()):
        return True
    if not tokens.dots[at] or key[0] != word[0] or len(key) >= len(word):
        return False
    return len(key) == 1 or (len(key) >= 3 and _subsequence(key, word))  # "G. Valadares", "Juaz. do Norte"


def _subsequence(short: str, long: str) -> bool:
    letters = iter(long)
    return all(letter in letters for letter in short)


def _after_state(evidence: Evidence, state: State) -> Iterator[Place]:
    """Yield the city of "SP - Campinas", a field of its own right after the state."""
    tokens = evidence.tokens
    start = state.end
    if start >= tokens.size or evidence.marks[start] not in (FREE, LABEL):
        return
    start += evidence.marks[start] == LABEL
    if start >= tokens.size:
        return
    end = tokens.hard_end(start)
    if name := gazetteer.municipalities(tokens.phrase(start, end)).get(state.uf):
        yield Place(start, end, state, name, state.uf, 3.0 + _cep_bonus(evidence, state.uf))


def _alone(evidence: Evidence, named: list[State]) -> Iterator[Place]:
    """Yield cities that no state follows: a field of their own, or the last words of the text."""
    tokens = evidence.tokens
    size = tokens.size
    start = 0
    while start < size:
        end = tokens.hard_end(start)
        first, last = start, end
        while first < last and evidence.marks[first] in (POSTCODE, LABEL, DROPPED):
            first += 1
        while last > first and evidence.marks[last - 1] != FREE:
            last -= 1
        if first < last and evidence.marks[first] == FREE:
            yield from _whole(evidence, first, last, named)
            if _tail_bonus(evidence, last):
                yield from _tail(evidence, first, last)
        start = end


def _whole(evidence: Evidence, start: int, end: int, named: list[State]) -> Iterator[Place]:
    tokens = evidence.tokens
    key = tokens.phrase(start, end)
    by_uf = gazetteer.municipalities(key)
    known = gazetteer.nickname(key)
    if known is not None and (len(key) <= 4 or " " in key or known.uf in evidence.cep_ufs):
        accented = not all(word.isascii() for word in tokens.words[start:end])  # "Poá" is no "POA"
        by_uf = by_uf if by_uf and accented else {**by_uf, known.uf: known.name}
    if not by_uf:
        return
    resolved = _resolve(evidence, start, end, by_uf, named)
    if resolved is None:
        return
    uf, state, certainty = resolved
    labelled = 2.0 if evidence.labelled.get(start) == "cidade" else 0.0
    yield Place(start, end, state, by_uf[uf], uf, certainty + labelled + _tail_bonus(evidence, end))


def _resolve(
    evidence: Evidence, start: int, end: int, by_uf: dict[str, str], named: list[State]
) -> tuple[str, State | None, float] | None:
    for uf in evidence.cep_ufs:
        if uf in by_uf:
            elsewhere = gazetteer.CAPITALS[uf] == by_uf[uf] and _in_capital(evidence, uf) is False
            return None if elsewhere else (uf, None, 4.0)
    apart = [state for state in named if state.uf in by_uf and (state.end <= start or state.start >= end)]
    if apart:
        return apart[-1].uf, apart[-1], 2.5
    if evidence.ceps or any(state.end <= start or state.start >= end for state in named if not state.spelled):
        return None
    key = evidence.tokens.phrase(start, end)
    for uf, name in by_uf.items():
        if gazetteer.CAPITALS[uf] == name:
            return uf, None, 4.0 if name == gazetteer.UF_NAMES[uf] else 3.5
    if len(by_uf) == 1 and key not in _QUARTER_NAMES:
        return next(iter(by_uf)), None, 2.5
    return None


def _tail(evidence: Evidence, start: int, end: int) -> Iterator[Place]:
    """Yield cities spelled by the last words of a field that says more: only where a CEP, sigla or name decides."""
    tokens = evidence.tokens
    ufs = evidence.cep_ufs
    for length in range(1, min(_LONGEST, end - start - 1) + 1):
        first = end - length
        if evidence.marks[first] != FREE or tokens.kinds[first] != WORD:
            return
        key = tokens.phrase(first, end)
        by_uf = gazetteer.municipalities(key)
        known = gazetteer.nickname(key)
        if known is not None and not by_uf and (len(key) <= 4 or key in _PLAIN_NICKNAMES):
            yield Place(first, end, None, known.name, known.uf, 4.0)
        for uf in ufs:
            if uf in by_uf:
                yield Place(first, end, None, by_uf[uf], uf, 3.5 + 0.8 * length)
        if key == "brasilia" and _opens_with_sector(tokens):
            yield Place(first, end, None, by_uf["DF"], "DF", 4.0)
        if key in _PLAIN_CAPITALS and not ufs and not states(evidence) and evidence.marks[first - 1] != LABEL:
            yield Place(first, end, None, by_uf[_PLAIN_CAPITALS[key]], _PLAIN_CAPITALS[key], 4.0)
        if not evidence.ceps and len(by_uf) == 1 and length > 1:
            ((uf, name),) = by_uf.items()
            if key.endswith(gazetteer.name_key(gazetteer.UF_NAMES[uf])) or key in {"rio de janeiro", "sao paulo"}:
                yield Place(first, end, None, name, uf, 4.0)


def _opens_with_sector(tokens: Tokens) -> bool:
    """Does the text begin as only Brasília's addresses do: "SQN 210 …", "SHIN QL 10 …"."""
    first, *others = tokens.keys[:2]
    return len(first) > 2 and first in lx.DF_CODES and bool(others)


def _cep_bonus(evidence: Evidence, uf: str) -> float:
    ufs = evidence.cep_ufs
    return (0.5 if uf in ufs else -3.0) if ufs else 0.0


def _tail_bonus(evidence: Evidence, end: int) -> float:
    """Reward a place after which nothing but explained tokens comes."""
    return 1.0 if all(mark in (POSTCODE, LABEL, DROPPED, STATE) for mark in evidence.marks[end:]) else 0.0


def _in_capital(evidence: Evidence, uf: str) -> bool | None:
    """Say whether the CEP lies in the capital of `uf`; None where there is none or the ranges do not tell."""
    ranges = _CAPITAL_CEPS.get(uf)
    if ranges is None or not evidence.ceps:
        return None
    prefix = int(evidence.ceps[0][:3])
    return any(low <= prefix <= high for low, high in ranges)
