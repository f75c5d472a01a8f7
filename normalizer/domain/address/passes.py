"""The passes that mark what single tokens show, before any reading is tried; `PASSES`, at the end, is their order.

Here are labels, CEPs, phones and "S/N", and the shapes of registers; `remarks` and `units` have the others. What stays
FREE the readings explain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from normalizer.domain import gazetteer
from normalizer.domain.address import lexicon as lx
from normalizer.domain.address.remarks import (
    mark_capital,
    mark_corners,
    mark_fields,
    mark_lead,
    mark_orders,
    mark_references,
    mark_repeats,
    stands_apart,
)
from normalizer.domain.address.streets import at_street, date_follows, mark_prefixes
from normalizer.domain.address.tokens import (
    BLANK,
    CEP,
    DROPPED,
    FREE,
    GLUED,
    HARD,
    HYPHEN,
    LABEL,
    NOISE,
    NUM,
    NUMBER,
    PHONE,
    POSTCODE,
    SLASH,
    WORD,
)
from normalizer.domain.address.units import mark_units

if TYPE_CHECKING:
    from collections.abc import Callable

    from normalizer.domain.address.tokens import Evidence, Tokens

_SERIAL: Final = 3  # more label words than this, and no colon, are a record written out
_STATE_ENDS: Final = frozenset(gazetteer.name_key(name).split()[-1] for name in gazetteer.UF_NAMES.values())


def mark_labels(evidence: Evidence) -> None:
    """Mark the words that announce a field, and note which value is whose."""
    if lx.LABELS.keys().isdisjoint(evidence.vocabulary):
        return
    serial = len(lx.SERIAL_LABELS & evidence.vocabulary) > _SERIAL and not any(evidence.colons)
    for at, key in enumerate(evidence.keys):
        field = lx.LABELS.get(key)
        if field is None or evidence.in_city(at) or evidence.marks[at] == LABEL:
            continue
        if field != lx.OTHER_FIELD or evidence.marks[at] != DROPPED:  # not in the value of another label
            if _announces(evidence, at, serial=serial):
                _label(evidence, at, at + 1, field)
            elif field != lx.OTHER_FIELD and _ends_in_colon(evidence, at):
                _label(evidence, at, at + 2, field)


def _announces(evidence: Evidence, at: int, *, serial: bool) -> bool:
    """Is the label's word one here: with a colon, understood without one, or one of a series."""
    key = evidence.keys[at]
    if evidence.colons[at] and not _is_street_type(evidence, at):
        return True
    if key in lx.BARE_LABELS and _stands_as_label(evidence, at) and not _is_district(evidence, at):
        return True
    return serial and key in lx.SERIAL_LABELS and _in_series(evidence, at)


def _is_district(evidence: Evidence, at: int) -> bool:
    """Is the label's word the district itself: "…, 77, LOGRADOURO, JOÃO CÂMARA - RN"."""
    if evidence.in_slot(at) and at > evidence.slot[0]:
        return at + 1 == evidence.slot[1]  # "NOVO BAIRRO, MONTE CARLO - SC"
    return at == evidence.slot[0] and evidence.keys[at] in lx.DISTRICT_TOO


def _ends_in_colon(tokens: Tokens, at: int) -> bool:
    """Is the label one of two words: "End. Res.:", "Rua/Av:", "Cidade/UF:"."""
    following = at + 1
    if following >= tokens.size or not tokens.colons[following] or tokens.gaps[following] == HARD:
        return False
    key = tokens.keys[following]
    if tokens.gaps[following] == SLASH:
        return key in lx.LABELS or key in lx.STREET_TYPES
    return key in lx.LABEL_QUALIFIERS


def _in_series(evidence: Evidence, at: int) -> bool:
    """Is the word one of many labels without colons, and not the value of the one before ("BAIRRO CIDADE NOVA")."""
    if at == 0:
        return True
    before = evidence.keys[at - 1]
    return evidence.marks[at - 1] != LABEL and before not in lx.PREPOSITIONS and before not in lx.STREET_TYPES


def _is_street_type(tokens: Tokens, at: int) -> bool:
    """Is "Rua:" the street's type, and not a label before another type ("Rua: Av. Brasil")."""
    if lx.LABELS[tokens.keys[at]] != "rua" or tokens.keys[at] not in lx.STREET_TYPES:
        return False
    return at + 1 >= tokens.size or not at_street(tokens, at + 1)


def _stands_as_label(tokens: Tokens, at: int) -> bool:
    following = at + 1
    if following >= tokens.size or _belongs_to_name(tokens, at):
        return False
    key = tokens.keys[at]
    if key in lx.SURE_NUMBER_WORDS:
        return tokens.kinds[following] == NUM
    field = lx.LABELS[key]
    if field == lx.OTHER_FIELD:
        return tokens.kinds[following] != WORD or tokens.gaps[following] == HARD
    street = at > 0 and tokens.keys[at - 1] in lx.STREET_TYPES and tokens.gaps[at] != HARD  # "Rua Bairro Alto"
    whole = key in lx.DISTRICT_LABELS and tokens.hard_end(at) == at + 2
    named = whole and tokens.keys[following] in lx.DISTRICT_QUALIFIERS  # "Bairro Novo"
    return field == "cep" or not (street or named)


def _belongs_to_name(tokens: Tokens, at: int) -> bool:
    """Does "do", "da" or "sem" before it make it a part of what is said: "Rua do Bairro", "sem CEP"."""
    if at == 0 or tokens.keys[at - 1] not in lx.BEFORE_NO_LABEL:
        return False
    if at > 1 and tokens.kinds[at - 2] == NUM and tokens.gaps[at - 1] in (GLUED, HYPHEN):
        return False  # "12-A bairro"
    return not (at > 1 and tokens.keys[at - 2] in lx.UNIT_WORDS)  # "Casa A bairro Centro"


def _label(evidence: Evidence, at: int, value: int, field: str) -> None:
    """Mark the label [at, value) and note what its value is."""
    opened = at > 0 and evidence.keys[at - 1] in lx.IN_THE
    evidence.mark(at - 1 if opened else at, value, LABEL)
    if value >= evidence.size:
        return
    placed = field == "bairro" and opened and evidence.keys[value] in lx.OF
    if placed or (field == "cep" and evidence.keys[value] in lx.NUMBER_WORDS):
        evidence.mark(value, value + 1, LABEL)  # "no bairro de Santana", "CEP nº"
        value += 1
    if field != lx.OTHER_FIELD:
        evidence.labelled[value] = field
    else:
        evidence.mark(value, _other_end(evidence, at, value), DROPPED)


def _other_end(tokens: Tokens, at: int, value: int) -> int:
    """Return where the value ends that the label at `at` announces and that is none of an address."""
    end = tokens.hard_end(value)
    while end < tokens.size and tokens.kinds[end] in (PHONE, NOISE):
        end += 1
    if tokens.keys[at] in lx.REMARK_LABELS:
        end = tokens.size
    labels = (tokens.keys[at] in lx.LABELS and tokens.colons[at] for at in range(value, end))
    return next((at for at, label in enumerate(labels, start=value) if label or at_street(tokens, at)), end)


def mark_empty_slots(evidence: Evidence) -> None:
    """Drop the value of a label that says there is none, "COMPL: NAO TEM BAIRRO: …", and "s/ complemento"."""
    for at in evidence.labelled:
        end = at
        while evidence.free(end) and (end == at or evidence.gaps[end] != HARD):
            end += 1
        if evidence.phrase(at, end) in lx.NULL_SLOTS:
            evidence.mark(at, end, DROPPED)
    if not evidence.vocabulary.isdisjoint(lx.NONE_WORDS):
        for at in range(evidence.size - 1):
            if evidence.keys[at + 1] in lx.SLOT_NAMES and evidence.gaps[at + 1] != HARD and _lacks(evidence, at):
                evidence.mark(at, at + 2, DROPPED)


def _lacks(tokens: Tokens, at: int) -> bool:
    """Is it "sem", or the "s" of "s/"."""
    key = tokens.keys[at]
    return key in lx.WITHOUT or (len(key) == 1 and key in lx.NONE_WORDS and tokens.gaps[at + 1] == SLASH)


# -- CEP and phones ----------------------------------------------------------------------------------------------


def mark_postcodes(evidence: Evidence) -> None:
    """Take the CEPs, and drop phones, mails, dates and what lost digits."""
    marks = evidence.marks
    for at, kind in enumerate(evidence.kinds):
        if kind == WORD or marks[at] not in (FREE, DROPPED):
            continue
        if evidence.labelled.get(at) == "cep" and marks[at] == FREE:
            _labelled_cep(evidence, at)
        elif marks[at] == FREE:
            _loose_number(evidence, at)


def _loose_number(evidence: Evidence, at: int) -> None:
    kind, key = evidence.kinds[at], evidence.keys[at]
    if kind == CEP:
        _take_cep(evidence, at, at + 1, key)
    elif kind == NUM and 5 <= len(key) <= 7 and at > 3:
        _bare_cep(evidence, at)
    elif kind in (PHONE, NOISE):
        extension = kind == PHONE and evidence.key(at + 1) in lx.EXTENSIONS
        evidence.mark(at, at + 3 if extension else at + 1, DROPPED)


def _labelled_cep(evidence: Evidence, at: int) -> None:
    end, digits = at, ""
    while end < evidence.size and evidence.kinds[end] != WORD and len(digits) < 8:
        if end > at and evidence.gaps[end] == HARD and (len(digits), len(evidence.keys[end])) != (5, 3):
            break
        digits += evidence.keys[end]
        end += 1
    _take_cep(evidence, at, end, digits)


def _bare_cep(evidence: Evidence, at: int) -> None:
    """Take "84050 000" that ends the text behind the state, and drop one that lost digits."""
    digits = "".join(evidence.keys[at:])
    before = evidence.keys[at - 1]
    closes = evidence.kinds[at - 1] != WORD or before.upper() in gazetteer.UF_NAMES or before in _STATE_ENDS
    if closes and digits.isdecimal() and all(kind == NUM for kind in evidence.kinds[at:]):
        _take_cep(evidence, at, evidence.size, digits)


def _take_cep(evidence: Evidence, start: int, end: int, digits: str) -> None:
    uf = gazetteer.uf_of_cep(digits) if len(digits) == 8 else None
    evidence.mark(start, end, DROPPED if uf is None else POSTCODE)
    if uf is not None and digits not in evidence.ceps:
        evidence.ceps.append(digits)
        evidence.cep_ufs.append(uf)


# -- "S/N" -------------------------------------------------------------------------------------------------------


def mark_no_number(evidence: Evidence) -> None:
    """Mark "S/N" in its spellings."""
    if evidence.vocabulary.isdisjoint(lx.NONE_WORDS):
        return
    for at, key in enumerate(evidence.keys):
        if key in lx.NONE_WORDS and evidence.marks[at] == FREE:
            said = evidence.key(at + 1) in lx.NUMBER_WORDS and _says_none(evidence, at)
            end = at + 1 if key in lx.NO_NUMBERS else at + 2 if said else at
            # A number may follow after all, that is no date.
            numbered = evidence.is_number(end) and evidence.gaps[end] != HARD and not date_follows(evidence, end)
            if end > at and not numbered:
                evidence.no_number = end if evidence.no_number < 0 else evidence.no_number
                announced = evidence.key(at - 1) in lx.NUMBER_WORDS and evidence.gaps[at] != HARD
                evidence.mark(at - 1 if announced else at, end, NUMBER)  # "Nº S/N"


def _says_none(tokens: Tokens, at: int) -> bool:
    label, behind = at + 1, at + 2
    if tokens.keys[at] in lx.WITHOUT or tokens.gaps[label] != BLANK or tokens.dots[at]:
        lady = len(tokens.keys[label]) == 1 and tokens.key(behind) in lx.LADY_TITLES
        return tokens.gaps[label] != HARD and not lady
    if tokens.hard_end(label) == behind:
        return True
    if at < 2 or tokens.kinds[at - 1] != WORD or tokens.gaps[at] == HARD or tokens.keys[behind] in lx.LADY:
        return False
    # "travessa dos Pescadores s n praia": a name does not end in "s n", nor "N. Senhora" follow it.
    return len(tokens.keys[at - 1]) > 2 and tokens.keys[at - 1] not in lx.STREET_TYPES


# -- shapes of registers: where the district stands, a type behind its number, look-up ranges -------------------------

_ORDINALS: Final = "ºª°"
_FEW_DIGITS: Final = 6
_PAIR: Final = 2
_SIGLAS: Final = frozenset(uf.lower() for uf in gazetteer.UF_NAMES)
_RANGE_WORDS: Final = lx.PARTIAL | lx.SIDE_OF_STREET | lx.TO | lx.BARE_OF


def find_slot(evidence: Evidence) -> None:
    """Note the field right before "CITY - UF", behind a street: a register prints the district there."""
    city, end = _city(evidence)
    if city < 2:
        return
    evidence.city = (city, end)
    while city > 1 and evidence.kinds[city - 1] == CEP:
        city -= 1  # "VILA EXEMPLO. 04727-100 São Paulo - SP"
    start = evidence.hard_start(city - 1)
    # No street begins in it that is no district's name, as "Caminho das Árvores" is.
    streets = (at for at in range(start, city) if evidence.keys[at] not in lx.DISTRICT_TOO and at_street(evidence, at))
    if start > 0 and next(streets, None) is None:
        evidence.slot = (start, city)


def _city(tokens: Tokens) -> tuple[int, int]:
    """Return the field before the last sigla, if it is a municipality of that state, brackets behind it left out."""
    state = end = _last_sigla(tokens, 2)
    while end > 1 and tokens.parens[end - 1]:
        end -= 1  # "BRASILIA (GAMA) - DF"
    city = tokens.hard_start(end - 1) if state else 0
    known = city and tokens.keys[state].upper() in gazetteer.municipalities(tokens.phrase(city, end))
    return (city, end) if known else (0, 0)


def _last_sigla(tokens: Tokens, behind: int) -> int:
    """Return where the last sigla behind token `behind` stands, with no word after it in its field; 0 for none."""
    for at in range(tokens.size - 1, behind, -1):
        if tokens.keys[at] in _SIGLAS and (tokens.hard_end(at) == at + 1 or tokens.kinds[at + 1] != WORD):
            return at
    return 0


def mark_brackets(evidence: Evidence) -> None:
    """Drop a part of the city that stands in brackets behind it: "BRASILIA (GAMA) - DF"."""
    if True not in evidence.parens:
        return
    state = _last_sigla(evidence, 1)
    start = state
    while start > 0 and evidence.parens[start - 1]:
        start -= 1
    city = evidence.hard_start(start - 1) if 0 < start < state else start
    if 0 < city < start and evidence.keys[state].upper() in gazetteer.municipalities(evidence.phrase(city, start)):
        evidence.mark(start, state, DROPPED)


def mark_trailing_type(evidence: Evidence) -> None:
    """Take the type of "FULANO DE TAL, 121 RUA. VILA …", and drop one that says the street's own again."""
    types = [at for at, key in enumerate(evidence.keys) if key in lx.STREET_TYPES and at > 1]
    at = next((at for at in types if _trails(evidence, at)), 0)
    if not at:
        return
    kind, own = lx.STREET_TYPES[evidence.keys[at]], lx.STREET_TYPES.get(evidence.keys[0])
    if own is None or not at_street(evidence, 0):
        evidence.trailing_type = kind
        evidence.mark(at, at + 1, LABEL)
    elif own == kind:
        evidence.mark(at, at + 1, DROPPED)


def _trails(evidence: Evidence, at: int) -> bool:
    """Does the type end its field, right behind the number of the text's first field."""
    number = at - 1
    if evidence.keys[at] in lx.LAST_RESORT_TYPES or evidence.gaps[at] == HARD or evidence.hard_end(at) != at + 1:
        return False
    start = evidence.hard_start(number)
    numbered = (start == number and evidence.kinds[number] == NUM) or evidence.marks[start] == NUMBER
    return numbered and start > 0 and evidence.hard_start(start - 1) == 0 and evidence.kinds[0] == WORD


def mark_ranges(evidence: Evidence) -> None:
    """Drop what was pasted from a CEP look-up: "de 77 ao fim", "até 90/91", "lado ímpar"; and a bare "PARTE"."""
    for at, key in enumerate(evidence.keys):
        if key in _RANGE_WORDS and at > 1 and evidence.free(at) and (end := _range_end(evidence, at)) > at:
            evidence.mark(at, end, DROPPED)


def _range_end(evidence: Evidence, at: int) -> int:
    """Return where the range ends that begins at `at`, or `at`."""
    key, following = evidence.keys[at], at + 1
    if key in lx.PARTIAL:  # "PARTE" or "PARTE A", if that is the whole rest of its field
        end = evidence.hard_end(at)
        whole = end == following or (end == at + 2 and len(evidence.keys[following]) == 1)
        return end if whole and stands_apart(evidence, at) else at
    if key in lx.SIDE_OF_STREET:
        sided = evidence.key(following) in lx.PARITY and evidence.gaps[following] != HARD
        return at + 2 if sided else at
    last = _limit_end(evidence, following) if evidence.numeric(following) else at
    if last == at or key in lx.TO:
        return last
    opens = evidence.gaps[at] == HARD and evidence.key(last) in lx.UP_TO
    if opens and evidence.key(last + 1) in lx.THE_END:  # "ao fim", or "a 1200/1201"
        return last + 2
    return _limit_end(evidence, last + 1) if opens and evidence.numeric(last + 1) else at


def _limit_end(evidence: Evidence, at: int) -> int:
    """Return where "90/91" ends."""
    double = evidence.numeric(at + 1) and evidence.gaps[at + 1] == SLASH
    return at + 2 if double else at + 1


def mark_counted_registries(evidence: Evidence) -> None:
    """Drop the district of a notary's office: a field such as "34º", "39º Subdistrito", "PRIMEIRO"."""
    if lx.ORDINALS.isdisjoint(evidence.vocabulary) and not any(sign in evidence.text for sign in _ORDINALS):
        return
    for at in range(3, evidence.size):
        if evidence.gaps[at] != HARD or not evidence.free(at):
            continue
        end = evidence.hard_end(at)
        ordinal = evidence.words[at][-1] in _ORDINALS or evidence.keys[at] in lx.ORDINALS
        if ordinal and lx.REGISTRY_COUNTS.issuperset(evidence.keys[at + 1 : end]):
            evidence.mark(at, end, DROPPED)


def mark_second_numbers(evidence: Evidence) -> None:
    """Drop the second of two house numbers: "120 E 122", "1200 A 1210", "620 636"."""
    if evidence.kinds.count(NUM) < _PAIR:
        return
    for at in range(2, evidence.size - 1):
        # A house number opens a field behind the first, or follows "nº".
        housed = evidence.gaps[at] == HARD or evidence.keys[at - 1] in lx.NUMBER_WORDS
        if not housed or not evidence.numeric(at):
            continue
        joined = evidence.keys[at + 1] in lx.JOINS_NUMBERS and evidence.gaps[at + 1] == BLANK
        second = at + 2 if joined else at + 1
        if _is_second(evidence, at, second):
            evidence.mark(at + 1, second + 1, DROPPED)


def _is_second(evidence: Evidence, first: int, second: int) -> bool:
    if not evidence.numeric(second) or evidence.gaps[second] != BLANK or date_follows(evidence, second):
        return False
    low, high = evidence.keys[first], evidence.keys[second]
    ascending = low.isdecimal() and high.isdecimal() and int(low) < int(high) and len(high) < _FEW_DIGITS
    return ascending and (second + 1 == evidence.size or evidence.gaps[second + 1] == HARD)


# -- the order --------------------------------------------------------------------------------------------------------

Marking: TypeAlias = "Callable[[Evidence], None]"

# In this order: a token keeps its first mark, so what must not be read as anything else comes first.
PASSES: Final[tuple[Marking, ...]] = (
    find_slot,  # marks nothing: those behind it ask where the district stands
    mark_orders,  # nothing in an order is a field, whatever it looks like
    mark_repeats,  # before labels: "Bairro Centro, Bairro Centro" is one district
    mark_brackets,  # "BRASILIA (GAMA) - DF": before what looks for the city
    mark_labels,  # the values that labels announce are read by what the label says
    mark_empty_slots,  # "COMPL: NÃO TEM" needs its label
    mark_postcodes,  # "CEP:" is a label; a CEP is no phone and no house number
    mark_no_number,  # "S/N"
    mark_trailing_type,  # "121 RUA.", "SN RUA.": behind the number, or behind that there is none
    mark_ranges,  # before units: "lado" is one of them
    mark_counted_registries,
    mark_corners,  # before fields and references, which would drop what is behind the corner
    mark_fields,  # whole fields that say nothing, a person, a note; "S/N" and CEPs are none of them
    mark_capital,  # "São Paulo capital"
    mark_lead,  # "Mora na Rua …": behind what was dropped at the beginning
    mark_references,  # to the end of their field: last, so that they swallow nothing known
    mark_prefixes,  # before units: the Q of "Q SHIS" is no quadra
    mark_units,  # what stands in a remark is no complement
    mark_second_numbers,  # "lotes 5 e 6" are units
)


def gather(evidence: Evidence) -> Evidence:
    """Return the evidence, all passes run on it."""
    for mark in PASSES:
        mark(evidence)
    return evidence
