"""Passes over what announces a field, and over the numbers that are none of a house: CEP, phone, "S/N"."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from normalizer.domain import gazetteer
from normalizer.domain.address import lexicon as lx
from normalizer.domain.address.marks import DROPPED, FREE, LABEL, NUMBER, POSTCODE
from normalizer.domain.address.streets import at_street, date_follows
from normalizer.domain.address.tokens import BLANK, CEP, GLUED, HARD, HYPHEN, NOISE, NUM, PHONE, SLASH, WORD

if TYPE_CHECKING:
    from normalizer.domain.address.evidence import Evidence
    from normalizer.domain.address.tokens import Tokens

_SERIAL: Final = 3  # more label words than this, and no colon, are a record written out
_STATE_ENDS: Final = frozenset(gazetteer.name_key(name).split()[-1] for name in gazetteer.UF_NAMES.values())


def mark_labels(evidence: Evidence) -> None:
    """Mark the words that announce a field, and note which value is whose."""
    tokens = evidence.tokens
    if lx.LABELS.keys().isdisjoint(tokens.vocabulary):
        return
    serial = len(lx.SERIAL_LABELS & tokens.vocabulary) > _SERIAL and not any(tokens.colons)
    for at, key in enumerate(tokens.keys):
        field = lx.LABELS.get(key)
        if field is not None and _may_be_label(evidence, at, field):
            if _announces(evidence, at, serial=serial):
                _label(evidence, at, at + 1, field)
            elif field != lx.OTHER_FIELD and _ends_in_colon(tokens, at):
                _label(evidence, at, at + 2, field)


def _may_be_label(evidence: Evidence, at: int, field: str) -> bool:
    """Is the word neither a label already, nor the city's name, nor in the value of another label."""
    if evidence.in_city(at) or evidence.marks[at] == LABEL:
        return False
    return field != lx.OTHER_FIELD or evidence.marks[at] != DROPPED


def _announces(evidence: Evidence, at: int, *, serial: bool) -> bool:
    """Is the label's word one here: with a colon, understood without one, or one of a series."""
    tokens = evidence.tokens
    key = tokens.keys[at]
    if tokens.colons[at] and not _is_street_type(tokens, at):
        return True
    if key in lx.BARE_LABELS and _stands_as_label(tokens, at) and not _is_district(evidence, at):
        return True
    return serial and key in lx.SERIAL_LABELS and _in_series(evidence, at)


def _is_district(evidence: Evidence, at: int) -> bool:
    """Is the label's word the district itself: "…, 77, LOGRADOURO, JOÃO CÂMARA - RN"."""
    if evidence.in_slot(at) and at > evidence.slot[0]:
        return at + 1 == evidence.slot[1]  # "NOVO BAIRRO, MONTE CARLO - SC"
    return at == evidence.slot[0] and evidence.tokens.keys[at] in lx.DISTRICT_TOO


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
    before = evidence.tokens.keys[at - 1]
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
    return field == "cep" or not (_is_district_name(tokens, at) or _is_street_name(tokens, at))


def _is_district_name(tokens: Tokens, at: int) -> bool:
    """Is it the whole field "Bairro Novo", which is a name."""
    named = tokens.keys[at] in lx.DISTRICT_LABELS and tokens.hard_end(at) == at + 2
    return named and tokens.keys[at + 1] in lx.DISTRICT_QUALIFIERS


def _is_street_name(tokens: Tokens, at: int) -> bool:
    """Does a street's type stand before the label's word: "Rua Bairro Alto"."""
    return at > 0 and tokens.keys[at - 1] in lx.STREET_TYPES and tokens.gaps[at] != HARD


def _belongs_to_name(tokens: Tokens, at: int) -> bool:
    """Does "do", "da" or "sem" before it make it a part of what is said: "Rua do Bairro", "sem CEP"."""
    if at == 0 or tokens.keys[at - 1] not in lx.BEFORE_NO_LABEL:
        return False
    if at > 1 and tokens.kinds[at - 2] == NUM and tokens.gaps[at - 1] in (GLUED, HYPHEN):
        return False  # "12-A bairro"
    return not (at > 1 and tokens.keys[at - 2] in lx.UNIT_WORDS)  # "Casa A bairro Centro"


def _label(evidence: Evidence, at: int, value: int, field: str) -> None:
    """Mark the label [at, value) and note what its value is."""
    tokens = evidence.tokens
    opened = at > 0 and tokens.keys[at - 1] in lx.IN_THE
    evidence.mark(at - 1 if opened else at, value, LABEL)
    if value >= tokens.size:
        return
    placed = field == "bairro" and opened and tokens.keys[value] in lx.OF
    if placed or (field == "cep" and tokens.keys[value] in lx.NUMBER_WORDS):
        evidence.mark(value, value + 1, LABEL)  # "no bairro de Santana", "CEP nº"
        value += 1
    if field != lx.OTHER_FIELD:
        evidence.labelled[value] = field
    else:
        evidence.mark(value, _other_end(tokens, at, value), DROPPED)


def _other_end(tokens: Tokens, at: int, value: int) -> int:
    """Return where the value ends that the label at `at` announces and that is none of an address."""
    end = tokens.hard_end(value)
    while end < tokens.size and tokens.kinds[end] in (PHONE, NOISE):
        end += 1
    if tokens.keys[at] in lx.REMARK_LABELS:
        end = tokens.size
    return next((at for at in range(value, end) if _opens_other(tokens, at)), end)


def _opens_other(tokens: Tokens, at: int) -> bool:
    return at_street(tokens, at) or (tokens.keys[at] in lx.LABELS and tokens.colons[at])


def mark_empty_slots(evidence: Evidence) -> None:
    """Drop the value of a label that says there is none, "COMPL: NAO TEM BAIRRO: …", and "s/ complemento"."""
    tokens = evidence.tokens
    for at in evidence.labelled:
        end = at
        while evidence.free(end) and (end == at or tokens.gaps[end] != HARD):
            end += 1
        if tokens.phrase(at, end) in lx.NULL_SLOTS:
            evidence.mark(at, end, DROPPED)
    if not tokens.vocabulary.isdisjoint(lx.NONE_WORDS):
        for at in filter(partial(_lacks_slot, tokens), range(tokens.size - 1)):
            evidence.mark(at, at + 2, DROPPED)


def _lacks_slot(tokens: Tokens, at: int) -> bool:
    """Does "sem" or "s/" stand before a field that may be missing."""
    return tokens.keys[at + 1] in lx.SLOT_NAMES and tokens.gaps[at + 1] != HARD and _lacks(tokens, at)


def _lacks(tokens: Tokens, at: int) -> bool:
    """Is it "sem", or the "s" of "s/"."""
    key = tokens.keys[at]
    return key in lx.WITHOUT or (len(key) == 1 and key in lx.NONE_WORDS and tokens.gaps[at + 1] == SLASH)


# -- CEP and phones ----------------------------------------------------------------------------------------------


def mark_postcodes(evidence: Evidence) -> None:
    """Take the CEPs, and drop phones, mails, dates and what lost digits."""
    tokens, marks = evidence.tokens, evidence.marks
    for at, kind in enumerate(tokens.kinds):
        if kind == WORD or marks[at] not in (FREE, DROPPED):
            continue
        if evidence.labelled.get(at) == "cep" and marks[at] == FREE:
            _labelled_cep(evidence, at)
        elif marks[at] == FREE:
            _loose_number(evidence, at)


def _loose_number(evidence: Evidence, at: int) -> None:
    tokens = evidence.tokens
    kind, key = tokens.kinds[at], tokens.keys[at]
    if kind == CEP:
        _take_cep(evidence, at, at + 1, key)
    elif kind == NUM and 5 <= len(key) <= 7 and at > 3:
        _bare_cep(evidence, at)
    elif kind in (PHONE, NOISE):
        extension = kind == PHONE and tokens.key(at + 1) in lx.EXTENSIONS
        evidence.mark(at, at + 3 if extension else at + 1, DROPPED)


def _labelled_cep(evidence: Evidence, at: int) -> None:
    tokens = evidence.tokens
    end, digits = at, ""
    while end < tokens.size and tokens.kinds[end] != WORD and len(digits) < 8:
        if end > at and tokens.gaps[end] == HARD and (len(digits), len(tokens.keys[end])) != (5, 3):
            break
        digits += tokens.keys[end]
        end += 1
    _take_cep(evidence, at, end, digits)


def _bare_cep(evidence: Evidence, at: int) -> None:
    """Take "84050 000" that ends the text behind the state, and drop one that lost digits."""
    tokens = evidence.tokens
    digits = "".join(tokens.keys[at:])
    before = tokens.keys[at - 1]
    closes = tokens.kinds[at - 1] != WORD or before.upper() in gazetteer.UF_NAMES or before in _STATE_ENDS
    if closes and digits.isdecimal() and all(kind == NUM for kind in tokens.kinds[at:]):
        _take_cep(evidence, at, tokens.size, digits)


def _take_cep(evidence: Evidence, start: int, end: int, digits: str) -> None:
    uf = gazetteer.uf_of_cep(digits) if len(digits) == 8 else None
    evidence.mark(start, end, DROPPED if uf is None else POSTCODE)
    if uf is not None and digits not in evidence.ceps:
        evidence.ceps.append(digits)
        evidence.cep_ufs.append(uf)


# -- "S/N" -------------------------------------------------------------------------------------------------------


def mark_no_number(evidence: Evidence) -> None:
    """Mark "S/N" in its spellings."""
    tokens = evidence.tokens
    if tokens.vocabulary.isdisjoint(lx.NONE_WORDS):
        return
    for at, key in enumerate(tokens.keys):
        if key in lx.NONE_WORDS and evidence.marks[at] == FREE:
            end = _none_end(tokens, at)
            if end > at and not _numbered(tokens, end):
                _mark_none(evidence, at, end)


def _mark_none(evidence: Evidence, at: int, end: int) -> None:
    tokens = evidence.tokens
    if evidence.no_number < 0:
        evidence.no_number = end
    announced = at > 0 and tokens.keys[at - 1] in lx.NUMBER_WORDS and tokens.gaps[at] != HARD
    evidence.mark(at - 1 if announced else at, end, NUMBER)  # "Nº S/N"


def _none_end(tokens: Tokens, at: int) -> int:
    """Return where the "S/N" ends that begins at `at`, or `at`."""
    if tokens.keys[at] in lx.NO_NUMBERS:
        return at + 1
    return at + 2 if tokens.key(at + 1) in lx.NUMBER_WORDS and _says_none(tokens, at) else at


def _numbered(tokens: Tokens, end: int) -> bool:
    """Does a number follow after all, and no date."""
    return tokens.is_number(end) and tokens.gaps[end] != HARD and not date_follows(tokens, end)


def _says_none(tokens: Tokens, at: int) -> bool:
    label, behind = at + 1, at + 2
    if tokens.keys[at] in lx.WITHOUT or tokens.gaps[label] != BLANK or tokens.dots[at]:
        lady = len(tokens.keys[label]) == 1 and tokens.key(behind) in lx.LADY_TITLES
        return tokens.gaps[label] != HARD and not lady
    if tokens.hard_end(label) == behind:
        return True
    # "travessa dos Pescadores s n praia": a name does not end in "s n", nor "N. Senhora" follow it.
    return tokens.keys[behind] not in lx.LADY and _is_named(tokens, at - 1)


def _is_named(tokens: Tokens, at: int) -> bool:
    """Does a name end at `at`, in the field that goes on behind it."""
    if at < 1 or tokens.kinds[at] != WORD or tokens.gaps[at + 1] == HARD:
        return False
    return len(tokens.keys[at]) > 2 and tokens.keys[at] not in lx.STREET_TYPES
