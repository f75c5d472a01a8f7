"""City and state candidates of a text, each with how well it is supported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from normalizer.domain import gazetteer
from normalizer.domain.address import lexicon as lx
from normalizer.domain.address import weights
from normalizer.domain.address.tokens import CEP, DROPPED, FREE, HARD, LABEL, POSTCODE, STATE, WORD, Tokens
from normalizer.domain.address.words import (
    NAMESAKES,
    PLAIN_CAPITALS,
    PLAIN_NICKNAMES,
    coded_capital,
    in_capital,
    ways_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normalizer.domain.address.tokens import Evidence

_STATE_NAMES: Final = {tuple(gazetteer.name_key(name).split()): uf for uf, name in gazetteer.UF_NAMES.items()}
_STATE_OPENERS: Final = frozenset({*lx.STATE_WORDS, *(words[0] for words in _STATE_NAMES)})
_LONGEST: Final = gazetteer.MAX_NAME_WORDS
_LONGEST_STATE: Final = max(map(len, _STATE_NAMES))
_OF_STATE: Final = lx.OF | lx.AND
_NICKNAME_WORDS: Final = 4
_EXPLAINED: Final = bytes((POSTCODE, LABEL, DROPPED, STATE))


_STATES_TRIED: Final = 20  # the last ones: no address names so many


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
    marks = evidence.marks
    found: list[State] = []
    read_to = 0
    for at, key in enumerate(evidence.keys):
        length = len(key)
        if (length > 2 and key not in _STATE_OPENERS) or at < read_to:
            continue
        if marks[at] != FREE or evidence.kinds[at] != WORD:
            continue
        if length == 2:
            state = _sigla(evidence, at)
        elif length == 1:
            state = _dotted(evidence, at)
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
    bound = tokens.is_number(following) and tokens.gaps[following] < HARD
    if bound and len(tokens.keys[following]) < 5:
        return None  # a road, "SP 330", or a unit, "AP 12"
    return State(at, following, uf, spelled=False)


def _dotted(tokens: Tokens, at: int) -> State | None:
    if at + 1 >= tokens.size or not tokens.dots[at] or len(tokens.keys[at + 1]) != 1 or tokens.gaps[at + 1] == HARD:
        return None
    uf = (tokens.keys[at] + tokens.keys[at + 1]).upper()
    ends = at + 2 == tokens.size or tokens.gaps[at + 2] == HARD or tokens.kinds[at + 2] == CEP
    return State(at, at + 2, uf, spelled=False) if uf in gazetteer.UF_NAMES and ends else None


def _spelled(evidence: Evidence, start: int) -> State | None:
    """Return the state whose name begins at `start`, "Estado de" before it or not."""
    at = start
    if evidence.keys[at] in lx.STATE_WORDS:
        at += 1
        while evidence.key(at) in _OF_STATE:
            at += 1
    for end in range(min(at + _LONGEST_STATE, evidence.size), at, -1):
        uf = _STATE_NAMES.get(tuple(evidence.keys[at:end]))
        if uf is not None and _is_state(evidence, start, at, end, uf):
            return State(start, end, uf, spelled=True)
    sigla = evidence.key(at).upper() if start < at else ""
    return State(start, at + 1, sigla, spelled=True) if sigla in gazetteer.UF_NAMES else None


def _is_state(evidence: Evidence, start: int, at: int, end: int, uf: str) -> bool:
    """Is the name one field's, and not that of the city in "SAO PAULO - SP"."""
    city = uf in NAMESAKES and start == at and evidence.key(end) == uf.lower()
    return not city and evidence.marks[end - 1] == FREE and HARD not in evidence.gaps[at + 1 : end]


def places(evidence: Evidence) -> list[Place]:
    """Return the candidates for city and state, best supported first."""
    named = states(evidence)[-_STATES_TRIED:]
    found = [place for state in named for place in _before_state(evidence, state)]
    if not found:
        found = [place for state in named for place in _after_state(evidence, state)]
    if all(place.score < weights.CLEAR_PLACE for place in found) or any(state.spelled for state in named):
        found.extend(_alone(evidence, named))
    found.sort(key=lambda place: -place.score)
    return found


def _before_state(evidence: Evidence, state: State) -> Iterator[Place]:
    marks = evidence.marks
    last = state.start - 1
    while last >= 0 and marks[last] in (POSTCODE, LABEL, DROPPED):
        last -= 1
    if not evidence.free(last) or evidence.kinds[last] != WORD:
        return
    score = weights.CITY_BEFORE_STATE + _tail_bonus(evidence, state.end) + _cep_bonus(evidence, state.uf)
    score += _state_bonus(evidence, state)
    in_capital = state.spelled and _is_in_capital(evidence, state.uf)
    for start, name, quality in cities_ending(evidence, last + 1, state.uf):
        district = in_capital and name != gazetteer.CAPITALS[state.uf]  # "…, Socorro, São Paulo", CEP of the capital
        cut_short = evidence.city[1] == last + 1 and start > evidence.city[0]  # "Bela Cruz - CE" is not in Cruz
        if not district and not cut_short:
            yield Place(start, last + 1, state, name, state.uf, score + quality)


def _state_bonus(evidence: Evidence, state: State) -> float:
    opens = state.start > 0 and evidence.gaps[state.start] == HARD and not state.spelled
    labelled = evidence.labelled.get(state.start) == "estado"
    return (weights.STATE_OPENS_FIELD if opens else 0.0) + (weights.STATE_LABELLED if labelled else 0.0)


def cities_ending(evidence: Evidence, end: int, uf: str) -> Iterator[tuple[int, str, float]]:
    """Yield (start, official name, quality) of the cities of `uf` that the tokens before `end` spell."""
    longest = 0
    for start in _name_starts(evidence, end):
        length, key = end - start, evidence.phrase(start, end)
        name = gazetteer.municipalities(key).get(uf)
        known = gazetteer.nickname(key) if name is None and length <= _NICKNAME_WORDS else None
        if name is not None:
            longest = length
            yield start, name, weights.PER_CITY_WORD * length + _opens_field(evidence, start)
        elif known is not None and known.uf == uf:
            yield start, known.name, weights.PER_NICKNAME_WORD * length + _opens_field(evidence, start)
    first = end - longest
    if longest and not (evidence.free(first - 1) and evidence.gaps[first] != HARD):
        return
    if not longest or evidence.keys[first - 1] in lx.CITY_SHORTS:  # which may belong to the name: "B. Camboriú"
        yield from (city for city in _abbreviated(evidence, end, uf) if end - city[0] > longest)


def _name_starts(evidence: Evidence, end: int) -> Iterator[int]:
    """Yield where a name of free words that ends before `end` may begin, in its field, the shortest first."""
    marks = evidence.marks
    for start in range(end - 1, max(-1, end - 1 - _LONGEST), -1):
        if marks[start] != FREE or evidence.kinds[start] != WORD:
            return
        yield start
        if evidence.gaps[start] == HARD:
            return


def _opens_field(evidence: Evidence, at: int) -> float:
    if evidence.labelled.get(at) == "cidade":
        return weights.CITY_LABELLED
    return weights.CITY_OPENS_FIELD if evidence.gaps[at] == HARD else 0.0


def _abbreviated(evidence: Evidence, end: int, uf: str) -> list[tuple[int, str, float]]:
    """Return the city of `uf` whose name is written short before `end`: "S. J. do Rio Preto". None if several fit."""
    matches: dict[str, int] = {}
    for words, place in gazetteer.ending_with(evidence.keys[end - 1]):
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
    quality = weights.PER_CITY_WORD * (end - first) + weights.ABBREVIATED_CITY + _opens_field(evidence, first)
    return [(first, longest[0], quality)]


def _match_short(evidence: Evidence, words: tuple[str, ...], end: int) -> int | None:
    """Return where the tokens before `end` begin to spell `words`, some of them short; small words may be left out."""
    at = end - 1
    shortened = False
    for word in reversed(words):
        if evidence.free(at) and (at == end - 1 or evidence.gaps[at + 1] != HARD) and _may_be(evidence, at, word):
            shortened |= evidence.keys[at] != word
            at -= 1
        elif word not in lx.PREPOSITIONS:
            return None
    return at + 1 if shortened else None


def _may_be(tokens: Tokens, at: int, word: str) -> bool:
    key = tokens.keys[at]
    if key == word:
        return True
    if word in lx.CITY_SHORTS.get(key, ()):
        return True
    if not tokens.dots[at] or key[:1] != word[0] or len(key) >= len(word):
        return False
    letters = iter(word)
    return len(key) == 1 or (len(key) >= 3 and all(letter in letters for letter in key))  # "G. Valadares", "Juaz."


def _after_state(evidence: Evidence, state: State) -> Iterator[Place]:
    """Yield the city of "SP - Campinas", a field of its own right after the state."""
    start = state.end
    if start >= evidence.size or evidence.marks[start] not in (FREE, LABEL):
        return
    start += evidence.marks[start] == LABEL
    if start >= evidence.size:
        return
    end = evidence.hard_end(start)
    if name := gazetteer.municipalities(evidence.phrase(start, end)).get(state.uf):
        yield Place(start, end, state, name, state.uf, weights.CITY_AFTER_STATE + _cep_bonus(evidence, state.uf))


def _alone(evidence: Evidence, named: list[State]) -> Iterator[Place]:
    """Yield cities that no state follows: a field of their own, or the last words of the text."""
    for start, end in evidence.fields():
        first, last = start, end
        while first < last and evidence.marks[first] in (POSTCODE, LABEL, DROPPED):
            first += 1
        while last > first and evidence.marks[last - 1] != FREE:
            last -= 1
        if first < last and evidence.marks[first] == FREE:
            yield from _whole(evidence, first, last, named)
            if _tail_bonus(evidence, last):
                yield from _tail(evidence, first, last)


def _whole(evidence: Evidence, start: int, end: int, named: list[State]) -> Iterator[Place]:
    by_uf = _called(evidence, start, end)
    resolved = _resolve(evidence, start, end, by_uf, named) if by_uf else None
    if resolved is None:
        return
    uf, state, certainty = resolved
    labelled = weights.CITY_LABELLED if evidence.labelled.get(start) == "cidade" else 0.0
    yield Place(start, end, state, by_uf[uf], uf, certainty + labelled + _tail_bonus(evidence, end))


def _called(evidence: Evidence, start: int, end: int) -> dict[str, str]:
    """Return {UF: name} of what a whole field may call, nicknames too."""
    key = evidence.phrase(start, end)
    by_uf = gazetteer.municipalities(key)
    known = gazetteer.nickname(key)
    if known is None or not (len(key) <= 4 or " " in key or known.uf in evidence.cep_ufs):
        return by_uf
    accented = not all(word.isascii() for word in evidence.words[start:end])  # "Poá" is no "POA"
    return by_uf if by_uf and accented else {**by_uf, known.uf: known.name}


def _resolve(
    evidence: Evidence, start: int, end: int, by_uf: dict[str, str], named: list[State]
) -> tuple[str, State | None, float] | None:
    """Return the state of a city that none follows, the token that says so, and how sure that is."""
    uf = next(filter(by_uf.__contains__, evidence.cep_ufs), None)
    if uf is not None:
        # Not where it is the capital's name, and the CEP one of another city.
        elsewhere = gazetteer.CAPITALS[uf] == by_uf[uf] and _is_in_capital(evidence, uf) is False
        return None if elsewhere else (uf, None, weights.CITY_BY_CEP)
    apart = [state for state in named if state.end <= start or state.start >= end]
    agreeing = [state for state in apart if state.uf in by_uf]
    if agreeing:
        return agreeing[-1].uf, agreeing[-1], weights.CITY_BY_STATE_APART
    alone = not evidence.ceps and all(state.spelled for state in apart)
    # It is what the text ends with, or labelled: in "Santos Dumont, Cascavel" the last one is the city.
    last = alone and (start in evidence.labelled or _tail_bonus(evidence, end) > 0)
    return _by_name(evidence.phrase(start, end), by_uf) if last else None


def _by_name(key: str, by_uf: dict[str, str]) -> tuple[str, State | None, float] | None:
    """Return the state that the name alone decides: it is a capital's, or of one town."""
    for uf, name in by_uf.items():
        if gazetteer.CAPITALS[uf] == name:
            return uf, None, weights.CITY_IS_NAMESAKE if uf in NAMESAKES else weights.CITY_IS_CAPITAL
    (uf, *others) = by_uf
    region = ways_of(uf, by_uf[uf]).opening_quadra  # of Brasília: it may be its district
    if not others and not region and key not in lx.TOWN_LIKE_DISTRICTS:
        return next(iter(by_uf)), None, weights.CITY_IN_ONE_STATE
    return None


def _tail(evidence: Evidence, start: int, end: int) -> Iterator[Place]:
    """Yield cities spelled by the last words of a field that says more: only where a CEP, sigla or name decides."""
    for length in range(1, min(_LONGEST, end - start - 1) + 1):
        first = end - length
        if not evidence.free(first) or evidence.kinds[first] != WORD:
            return
        key = evidence.phrase(first, end)
        by_uf = gazetteer.municipalities(key)
        short = len(key) <= 4 or key in PLAIN_NICKNAMES  # or one that is nothing else
        known = gazetteer.nickname(key) if short and not by_uf else None
        if known is not None:
            yield Place(first, end, None, known.name, known.uf, weights.TAIL_IS_PLAIN)
        for uf in filter(by_uf.__contains__, evidence.cep_ufs):
            yield Place(first, end, None, by_uf[uf], uf, weights.TAIL_BY_CEP + weights.PER_CITY_WORD * length)
        for uf in _plain(evidence, first, key, by_uf):
            yield Place(first, end, None, by_uf[uf], uf, weights.TAIL_IS_PLAIN)


def _plain(evidence: Evidence, first: int, key: str, by_uf: dict[str, str]) -> Iterator[str]:
    """Yield the states in which the words `key`, at the end of a field that says more, can only be the city."""
    uf = coded_capital(key, evidence.keys[0]) if evidence.size > 1 else None
    if uf is not None:
        yield uf
    if key in PLAIN_CAPITALS and evidence.marks[first - 1] != LABEL and not evidence.cep_ufs:
        yield from () if states(evidence) else (PLAIN_CAPITALS[key],)
    if " " in key and len(by_uf) == 1 and not evidence.ceps:
        (uf,) = by_uf  # the only city so called may be named after its state: "Rio Grande do Sul", "São Paulo"
        namesake = uf in NAMESAKES and key == gazetteer.name_key(gazetteer.CAPITALS[uf])
        yield from (uf,) if namesake or key.endswith(gazetteer.name_key(gazetteer.UF_NAMES[uf])) else ()


def _cep_bonus(evidence: Evidence, uf: str) -> float:
    ufs = evidence.cep_ufs
    return (weights.CEP_AGREES if uf in ufs else weights.CEP_DISAGREES) if ufs else 0.0


def _tail_bonus(evidence: Evidence, end: int) -> float:
    """Reward a place after which nothing but explained tokens comes."""
    return weights.ENDS_TEXT if not evidence.marks[end:].strip(_EXPLAINED) else 0.0


def _is_in_capital(evidence: Evidence, uf: str) -> bool | None:
    """Say whether the CEP lies in the capital of `uf`; None where there is none or the ranges do not tell."""
    return in_capital(uf, evidence.ceps[0] if evidence.ceps else None)
