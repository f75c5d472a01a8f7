"""What the single tokens of a text show before any reading is tried.

CEP, phones, labels, empty slots, complement units, references, notes and orders: every rule marks tokens, and what
stays FREE is for the readings to explain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from normalizer.domain import gazetteer
from normalizer.domain.address import lexicon as lx
from normalizer.domain.address.marks import DROPPED, FREE, LABEL, NUMBER, POSTCODE
from normalizer.domain.address.streets import at_street, date_follows
from normalizer.domain.address.tokens import BLANK, CEP, GLUED, HARD, HYPHEN, NOISE, NUM, PHONE, SLASH, WORD
from normalizer.domain.address.units import find_units

if TYPE_CHECKING:
    from normalizer.domain.address.places import State
    from normalizer.domain.address.tokens import Tokens

_STATE_KEYS: Final = frozenset(gazetteer.name_key(name) for name in gazetteer.UF_NAMES.values())
_STATE_ENDS: Final = frozenset(key.split()[-1] for key in _STATE_KEYS)
_CAPITAL_ENDS: Final = frozenset(
    {gazetteer.name_key(name).split()[-1] for name in gazetteer.CAPITALS.values()}
    | {uf.lower() for uf in gazetteer.UF_NAMES}
)
_NONE_WORDS: Final = frozenset({"s", "sn", "snr", "sem"})  # what may open an "S/N"
_SLOT_NAMES: Final = frozenset({"complemento", "compl", "comp", "bairro", "cep", "referencia", "ref"})
_NUMBER_LABELS: Final = frozenset({"n", "no", "num", "numero", "nr", "nro"})

_LIVES: Final = frozenset({"mora", "moro", "reside", "resido", "residente"})
_CORNERS: Final = frozenset({"esquina", "esq"})
_AT_CORNERS: Final = frozenset({"casa", "predio", "sobrado", "loja", "bem", "de", "da", "na", "em"})
_SERIAL: Final = 3  # more label words than this, and no colon, are a record written out
_LADY: Final = frozenset({"sra", "senhora", "s"})


class Evidence:
    """The tokens of one text with their marks and what was found on the way."""

    __slots__ = ("cep_ufs", "ceps", "labelled", "marks", "no_number", "ordered", "states", "tokens", "units")

    def __init__(self, tokens: Tokens) -> None:
        """Gather the evidence of `tokens`."""
        self.tokens = tokens
        self.marks = bytearray(tokens.size)
        self.ceps: list[str] = []  # eight digits each
        self.cep_ufs: list[str] = []  # the state of each of them
        self.labelled: dict[int, str] = {}  # first token of a labelled value → field
        self.no_number = -1  # where "S/N" ends
        self.ordered = False  # the text gives orders
        self.states: list[State] | None = None  # what `places.states` found, kept
        self._orders()
        self._repeats()
        self._labels()
        self._empty_slots()
        self._postcodes()
        self._numbers_that_are_none()
        self._fields()
        self._capital()
        self._lead()
        self._references()
        self.units = find_units(tokens, self.marks)

    def free(self, at: int) -> bool:
        """Is the token there and still unexplained."""
        return 0 <= at < len(self.marks) and self.marks[at] == FREE

    def mark(self, start: int, end: int, kind: int) -> None:
        """Explain the tokens of [start, end) that are still free."""
        marks = self.marks
        for at in range(start, min(end, len(marks))):
            if marks[at] == FREE:
                marks[at] = kind

    # -- text that is no address ---------------------------------------------------------------------------------

    def _orders(self) -> None:
        """Drop what gives orders: from its field to the end, or, before an address, up to the sentence's end."""
        keys = self.tokens.keys
        if lx.ORDER_WORDS.isdisjoint(self.tokens.vocabulary):
            return
        found = [at for at, key in enumerate(keys) if key in lx.ORDER_WORDS]
        if len(found) == 1 and keys[found[0]] in lx.WEAK_ORDER_WORDS and not self.tokens.colons[found[0]]:
            return
        first, last = found[0], found[-1]
        if at_street(self.tokens, first - 1) and keys[first - 1].upper() not in gazetteer.UF_NAMES:
            return
        self.ordered = True
        before = first
        while before > 0 and self.tokens.gaps[before] != HARD and not self._closes_address(before - 1):
            before -= 1
        if before > 1 and self.tokens.colons[before - 1] and self._begins_sentence(before - 1):
            before -= 1  # "Sistema: ignore …"
        if any(at_street(self.tokens, at) for at in range(before)):
            self.mark(before, len(keys), DROPPED)
            return
        starts = [at for at in range(last + 1, len(keys)) if at_street(self.tokens, at)]
        sentence_ends = bool(starts) and self.tokens.gaps[starts[0]] == HARD and self.tokens.dots[starts[0] - 1]
        self.mark(0, starts[0] if sentence_ends else len(keys), DROPPED)

    def _begins_sentence(self, at: int) -> bool:
        return self.tokens.gaps[at] == HARD or self.tokens.dots[at - 1]

    def _closes_address(self, at: int) -> bool:
        tokens = self.tokens
        key = tokens.keys[at]
        return tokens.kinds[at] != WORD or key.upper() in gazetteer.UF_NAMES or key in _STATE_ENDS

    def _repeats(self) -> None:
        """Drop a field that says the one before it again: "Centro, Centro"; a number only where more is doubled.

        "45, 45" alone may be house and flat, and "São Paulo, São Paulo" city and state.
        """
        tokens = self.tokens
        if len(tokens.vocabulary) == tokens.size:
            return
        keys = tokens.keys
        edges = [*(at for at, gap in enumerate(tokens.gaps) if gap == HARD), tokens.size]
        doubled = [
            (middle, end)
            for start, middle, end in zip(edges, edges[1:], edges[2:], strict=False)
            if middle - start == end - middle
            and keys[start:middle] == keys[middle:end]
            and tokens.phrase(middle, end) not in _STATE_KEYS
        ]
        for start, end in doubled:
            if WORD in tokens.kinds[start:end] or len(doubled) > 1:
                self.mark(start, end, DROPPED)

    def _empty_slots(self) -> None:
        """Drop the value of a label that says there is none, "COMPL: NAO TEM BAIRRO: …", and "s/ complemento"."""
        tokens, marks = self.tokens, self.marks
        for at in self.labelled:
            end = at
            while end < tokens.size and marks[end] == FREE and (end == at or tokens.gaps[end] != HARD):
                end += 1
            if tokens.phrase(at, end) in lx.NULL_SLOTS:
                self.mark(at, end, DROPPED)
        if tokens.vocabulary.isdisjoint(_NONE_WORDS):
            return
        for at, key in enumerate(tokens.keys[:-1]):
            lacks = key == "sem" or (key == "s" and tokens.gaps[at + 1] == SLASH)
            if lacks and tokens.keys[at + 1] in _SLOT_NAMES and tokens.gaps[at + 1] != HARD:
                self.mark(at, at + 2, DROPPED)

    def _fields(self) -> None:
        """Drop empty slots, contacts, persons and notes, field by field."""
        tokens, marks = self.tokens, self.marks
        start, size = 0, tokens.size
        while start < size:
            end = tokens.hard_end(start)
            if marks[start] == FREE or marks[start] == LABEL:
                self._field(start, end)
            start = end

    def _field(self, start: int, end: int) -> None:
        tokens = self.tokens
        key = tokens.keys[start]
        if self._empty(start, end):
            self.mark(start, end, DROPPED)
        elif key in lx.PERSON_WORDS and end - start > 1:
            self.mark(start, next((at for at in range(start, end) if at_street(tokens, at)), end), DROPPED)
        elif (start > 0 or key in lx.NOTE_WORDS) and not lx.NOTE_WORDS.isdisjoint(tokens.keys[start:end]):
            self._note(start, end)

    def _empty(self, start: int, end: int) -> bool:
        """Does the field say nothing: "não informado", "Brasil" behind the state, an hour."""
        tokens = self.tokens
        if end - start <= 3 and tokens.phrase(start, end) in lx.NULL_SLOTS:
            return True
        if end - start == 1 and start > 0 and tokens.keys[start] in {"brasil", "brazil", "br"}:
            return self._closes_address(start - 1)
        if NOISE not in tokens.kinds[start:end]:
            return False
        words = {
            key for key, kind in zip(tokens.keys[start:end], tokens.kinds[start:end], strict=True) if kind != NOISE
        }
        return words <= lx.PREPOSITIONS | {"as", "ate"}

    def _note(self, start: int, end: int) -> None:
        tokens = self.tokens
        first = next(at for at in range(start, end) if tokens.keys[at] in lx.NOTE_WORDS)
        if any(at_street(tokens, at) for at in range(start, end)):
            return
        begins = start if first - start < 2 else first
        if first > begins and any(tokens.kinds[at] != WORD for at in range(begins, first)):
            begins = first
        opens_note = tokens.colons[end - 1] or tokens.colons[first]
        rest = tokens.size if opens_note else end
        if any(at_street(tokens, at) for at in range(end, rest)):
            rest = end
        self.mark(begins, rest, DROPPED)

    def _capital(self) -> None:
        """Drop "capital" behind one: "São Paulo capital", "Natal/RN - Capital"."""
        tokens = self.tokens
        if "capital" not in tokens.vocabulary:
            return
        for at, key in enumerate(tokens.keys):
            closes = at + 1 == tokens.size or tokens.gaps[at + 1] == HARD or self._closes_address(at + 1)
            if key == "capital" and at > 2 and closes and tokens.keys[at - 1] in _CAPITAL_ENDS:
                self.mark(at, at + 1, DROPPED)

    def _lead(self) -> None:
        """Drop "Mora na", "Reside à" before the street."""
        tokens = self.tokens
        start = 0
        while start < tokens.size and self.marks[start] == DROPPED:
            start += 1  # "Paciente Fulana, residente na Rua"
        at = start
        while at < tokens.size and self.marks[at] == FREE and tokens.keys[at] in lx.LEAD_WORDS:
            at += 1
        if at > start and tokens.keys[start] in _LIVES:
            at = self._with_whom(at)
        if at > start and at_street(tokens, at, opens=True):
            self.mark(start, at, DROPPED)

    def _with_whom(self, at: int) -> int:
        """Return where the street begins behind "mora com a filha na", or `at`."""
        tokens = self.tokens
        for street in range(at, min(at + 7, tokens.hard_end(at - 1))):
            if tokens.kinds[street] != WORD:
                break
            if tokens.keys[street - 1] in {"na", "no", "a", "em"} and at_street(tokens, street, opens=True):
                return street
        return at

    def _references(self) -> None:
        """Drop points of reference and contacts up to the end of their field."""
        tokens, marks = self.tokens, self.marks
        if lx.ASIDE_FIRST.isdisjoint(tokens.vocabulary):
            return
        keys = tokens.keys
        for at, key in enumerate(keys):
            if key not in lx.ASIDE_FIRST or marks[at] != FREE:
                continue
            start = self._remark_start(at)
            if (
                start == at
                and at
                and tokens.gaps[at] != HARD
                and (keys[at - 1] in lx.STREET_TYPES or keys[at - 1] in {"da", "do", "de"})
            ):
                continue  # in a name: "Rua da Frente", "Travessa do Lado"
            following = keys[at + 1] if at + 1 < len(keys) else ""
            pair = f"{key} {following}"
            painted = key in lx.PAINTED_WORDS and following in lx.COLOURS
            while painted and start > 1 and keys[start - 2] == "casa" and keys[start - 1] in lx.COLOURS:
                start -= 2  # "casa azul portão branco"
            if (
                painted
                or pair in lx.REFERENCE_PHRASES
                or pair in lx.CONTACT_PHRASES
                or self._refers(at, key, following)
            ):
                self.mark(start, tokens.hard_end(at), DROPPED)

    def _remark_start(self, at: int) -> int:
        """Return where the remark begins that the corner at `at` ends: "casa de esquina", "bem na esquina"."""
        tokens = self.tokens
        if _CORNERS.isdisjoint(tokens.keys[at : at + 2]):
            return at
        start = at
        while start > 0 and tokens.gaps[start] != HARD and tokens.keys[start - 1] in _AT_CORNERS:
            start -= 1
        return start if tokens.gaps[start] == HARD else at

    def _refers(self, at: int, key: str, following: str) -> bool:
        if key not in lx.REFERENCE_WORDS or key in {"lado", "frente"}:
            return False
        if key in {"antes", "depois", "apos", "altura", "sentido"}:
            return following in {"de", "da", "do", "dos", "das", "o", "a"}
        if key == "entre":
            return self._between_streets(at) or following in {"a", "as", "o", "os", "rua", "ruas", "r", "av"}
        if key == "pto":
            return following in {"ref", "referencia", "de"}
        return at > 0

    def _between_streets(self, at: int) -> bool:
        """Do two streets' names follow a house number, up to the end of a field: "2870 entre Duque e Visconde, …"."""
        tokens = self.tokens
        end = tokens.hard_end(at)
        numbered = at > 0 and (tokens.kinds[at - 1] == NUM or self.marks[at - 1] == NUMBER)
        return numbered and end < tokens.size and "e" in tokens.keys[at + 2 : end - 1]

    # -- labels --------------------------------------------------------------------------------------------------

    def _labels(self) -> None:
        tokens = self.tokens
        if lx.LABELS.keys().isdisjoint(tokens.vocabulary):
            return
        serial = len(lx.SERIAL_LABELS & tokens.vocabulary) > _SERIAL and not any(tokens.colons)
        for at, key in enumerate(tokens.keys):
            field = lx.LABELS.get(key)
            if field is None or self.marks[at] == LABEL:
                continue
            with_colon = tokens.colons[at] and not self._is_street_type(at, key)
            bare = key in lx.BARE_LABELS and self._stands_as_label(at, key)
            if with_colon or bare or (serial and key in lx.SERIAL_LABELS and self._in_series(at)):
                self._label(at, at + 1, field)
            elif field and self._ends_in_colon(at):
                self._label(at, at + 2, field)

    def _ends_in_colon(self, at: int) -> bool:
        """Is the label one of two words: "End. Res.:", "Rua/Av:", "Cidade/UF:"."""
        tokens, following = self.tokens, at + 1
        if following >= tokens.size or not tokens.colons[following] or tokens.gaps[following] == HARD:
            return False
        key = tokens.keys[following]
        if tokens.gaps[following] == SLASH:
            return key in lx.LABELS or key in lx.STREET_TYPES
        return key in lx.LABEL_QUALIFIERS

    def _in_series(self, at: int) -> bool:
        """Is the word one of many labels without colons, and not the value of the one before ("BAIRRO CIDADE NOVA")."""
        tokens = self.tokens
        if at == 0:
            return True
        before = tokens.keys[at - 1]
        return self.marks[at - 1] != LABEL and before not in lx.PREPOSITIONS and before not in lx.STREET_TYPES

    def _is_street_type(self, at: int, key: str) -> bool:
        following = at + 1
        return key == "rua" and not (following < self.tokens.size and at_street(self.tokens, following))

    def _stands_as_label(self, at: int, key: str) -> bool:
        tokens = self.tokens
        if at + 1 >= tokens.size:
            return False
        bound = at > 1 and tokens.kinds[at - 2] == NUM and tokens.gaps[at - 1] in (GLUED, HYPHEN)
        lettered = bound or (at > 1 and tokens.keys[at - 2] in lx.UNIT_WORDS)  # "Casa A bairro Centro", "12-A bairro"
        if at and not lettered and tokens.keys[at - 1] in {"do", "da", "de", "o", "a", "sem", "s"}:
            return False
        if key in {"numero", "num", "nr", "nro"}:
            return tokens.kinds[at + 1] == NUM
        if lx.LABELS[key] in {"", "cep"}:
            return tokens.kinds[at + 1] != WORD or tokens.gaps[at + 1] == HARD or key == "cep"
        if key == "bairro" and tokens.hard_end(at) == at + 2 and tokens.keys[at + 1] in {"novo", "alto", "velho"}:
            return False  # "Bairro Novo" is a name
        return at == 0 or not (tokens.keys[at - 1] in lx.STREET_TYPES and tokens.gaps[at] != HARD)

    def _label(self, at: int, value: int, field: str) -> None:
        """Mark the label [at, value) and note what its value is."""
        tokens = self.tokens
        self.mark(at - 1 if at and self.tokens.keys[at - 1] in {"no", "na"} else at, value, LABEL)
        if value >= tokens.size:
            return
        placed = (
            field == "bairro" and at > 0 and tokens.keys[at - 1] == "no" and tokens.keys[value] in {"de", "do", "da"}
        )
        if placed or (field == "cep" and tokens.keys[value] in _NUMBER_LABELS):
            self.mark(value, value + 1, LABEL)  # "no bairro de Santana", "CEP nº"
            value += 1
        if field:
            self.labelled[value] = field
            return
        end = tokens.hard_end(value)
        while end < tokens.size and tokens.kinds[end] in (PHONE, NOISE):
            end += 1
        if tokens.keys[at] in {"obs", "observacao"}:
            end = tokens.size
        stop = next((i for i in range(value, end) if self._opens_other(i)), end)
        self.mark(value, stop, DROPPED)

    def _opens_other(self, at: int) -> bool:
        return at_street(self.tokens, at) or (self.tokens.keys[at] in lx.LABELS and self.tokens.colons[at])

    # -- numbers -------------------------------------------------------------------------------------------------

    def _postcodes(self) -> None:
        tokens, marks = self.tokens, self.marks
        for at, kind in enumerate(tokens.kinds):
            if kind == WORD or marks[at] not in (FREE, DROPPED):
                continue
            if self.labelled.get(at) == "cep" and not self.marks[at]:
                self._labelled_cep(at)
            elif marks[at] == FREE and kind == CEP:
                self._take_cep(at, at + 1, tokens.keys[at])
            elif marks[at] == FREE and kind == NUM and 5 <= len(tokens.keys[at]) <= 7 and at > 3:
                self._bare_cep(at)
            elif marks[at] == FREE and kind in (PHONE, NOISE):
                extension = kind == PHONE and tokens.keys[at + 1 : at + 2] == ["ramal"]
                self.mark(at, at + 3 if extension else at + 1, DROPPED)

    def _labelled_cep(self, at: int) -> None:
        tokens = self.tokens
        end, digits = at, ""
        while (
            end < tokens.size
            and tokens.kinds[end] != WORD
            and len(digits) < 8
            and (end == at or tokens.gaps[end] != HARD or (len(digits) == 5 and len(tokens.keys[end]) == 3))
        ):
            digits += tokens.keys[end]
            end += 1
        self._take_cep(at, end, digits)

    def _bare_cep(self, at: int) -> None:
        """Take "84050 000" that ends the text behind the state, and drop one that lost digits."""
        tokens = self.tokens
        digits = "".join(tokens.keys[at:])
        if all(kind == NUM for kind in tokens.kinds[at:]) and digits.isdecimal() and self._closes_address(at - 1):
            self._take_cep(at, tokens.size, digits)

    def _take_cep(self, start: int, end: int, digits: str) -> None:
        uf = gazetteer.uf_of_cep(digits) if len(digits) == 8 else None
        if uf is not None:
            self.mark(start, end, POSTCODE)
            if digits not in self.ceps:
                self.ceps.append(digits)
                self.cep_ufs.append(uf)
        else:
            self.mark(start, end, DROPPED)

    def _numbers_that_are_none(self) -> None:
        """Mark "S/N" in its spellings."""
        tokens = self.tokens
        if tokens.vocabulary.isdisjoint(_NONE_WORDS):
            return
        keys = tokens.keys
        for at, key in enumerate(keys):
            if key not in _NONE_WORDS or self.marks[at] != FREE:
                continue
            if key in {"sn", "snr"}:
                end = at + 1
            elif at + 1 < len(keys) and keys[at + 1] in _NUMBER_LABELS and self._says_none(at):
                end = at + 2
            else:
                continue
            numbered = end < len(keys) and tokens.kinds[end] == NUM and tokens.gaps[end] != HARD
            if numbered and not date_follows(tokens, end):
                continue
            if self.no_number < 0:
                self.no_number = end
            self.mark(at, end, NUMBER)

    def _says_none(self, at: int) -> bool:
        tokens = self.tokens
        if tokens.keys[at] == "sem" or tokens.gaps[at + 1] != BLANK or tokens.dots[at]:
            return tokens.gaps[at + 1] != HARD and (
                tokens.keys[at + 1] != "n" or tokens.keys[at + 2 : at + 3] != ["sra"]
            )
        if at + 2 == tokens.size or tokens.gaps[at + 2] == HARD:
            return True
        # "travessa dos Pescadores s n praia": a name does not end in "s n", nor "N. Senhora" follow it.
        named = at > 1 and tokens.kinds[at - 1] == WORD and len(tokens.keys[at - 1]) > 2 and tokens.gaps[at] != HARD
        return named and tokens.keys[at - 1] not in lx.STREET_TYPES and tokens.keys[at + 2] not in _LADY
