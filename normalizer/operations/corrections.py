"""Corrections by a person: an address or a document, checked as far as a fact can be checked, stored, remembered.

A correction may hold what the text does not; whether the city lies in the state and the check digits of a CPF hold is
checked all the same.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, TypeAlias

from normalizer.domain.address import Address
from normalizer.domain.address.explain import lesson
from normalizer.domain.address.standard import FIELDS
from normalizer.domain.appointment import Kind
from normalizer.domain.document import Document
from normalizer.domain.document.value import Cpf, long_rg_is_valid, rg_is_valid
from normalizer.domain.gazetteer import UF_NAMES, municipalities, name_key, uf_of_cep
from normalizer.domain.text import canonical, clean
from normalizer.domain.wording import number
from normalizer.errors import InvalidInput
from normalizer.store import ImportNotes, ImportState, Order

if TYPE_CHECKING:
    from normalizer.cache import Cache
    from normalizer.domain.address.explain import ClinicWord
    from normalizer.store import AppointmentStore, Filter, StoredAppointment

#: An appointment and what a person says of its texts; None that there is none.
Given: TypeAlias = "tuple[StoredAppointment, Mapping[Kind, Address | Document | None]]"

_LONGEST: Final = 200
_MOST: Final = 10_000
_NUMBER: Final = re.compile(r"[0-9]{1,8}|[0-9]{1,3}-[0-9]{1,4}", re.ASCII)  # block and house in one: "9-55"
_CEP: Final = re.compile(r"([0-9]{5})-?([0-9]{3})", re.ASCII)


class Wrongs:
    """What is wrong of several fields, so that a person is told all at once."""

    def __init__(self) -> None:
        self._found: list[InvalidInput] = []

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Go on behind what is refused inside."""
        try:
            yield
        except InvalidInput as wrong:
            self._found += [wrong, *wrong.also]

    def end(self) -> None:
        """Raise the first, which names the others in `also`; nothing where nothing was noted."""
        if self._found:
            first, *rest = self._found
            first.also = tuple(rest)
            raise first


def address_of(fields: Mapping[str, str | None]) -> Address:
    """The address of the typed fields, in its stored form. Raises InvalidInput that names each field in `where`."""
    wrongs = Wrongs()
    typed: dict[str, str | None] = dict.fromkeys(FIELDS)
    for name in FIELDS:
        with wrongs.noted():
            typed[name] = _typed(name, fields.get(name))
            if typed[name] is None and name in _LEAST:
                raise _wrong(name, _LEAST[name], "nada", "Rua, cidade e estado são o mínimo de um endereço.")
    state, city, cep = None, None, None
    with wrongs.noted():
        state = state_of(typed["estado"]) if typed["estado"] else None
    with wrongs.noted():
        city = _municipality(typed["cidade"], state) if typed["cidade"] and state else None
    with wrongs.noted():
        _check_number(typed["numero"])
    with wrongs.noted():
        cep = _cep(typed["cep"], state) if state else None
    wrongs.end()
    return Address.from_dict({**typed, "estado": state, "cidade": city, "cep": cep})


_LEAST: Final = {"rua": "a rua", "cidade": "a cidade", "estado": "o estado"}


def _municipality(city: str, state: str) -> str:
    official = municipalities(name_key(city)).get(state)
    if official is None:
        fix = f"Confira o nome do município em {UF_NAMES[state]}."
        raise _wrong("cidade", f"um município de {state}", "outro nome", fix)
    return official


def _check_number(number: str | None) -> None:
    if number is not None and not _NUMBER.fullmatch(number):
        fix = "Deixe vazio se não houver número (S/N); letras e apartamentos vão no complemento."
        raise _wrong("numero", "só algarismos, ou quadra e casa como 9-55", "outros caracteres", fix)


def document_of(fields: Mapping[str, str | None]) -> Document:
    """The document of the typed fields. Raises InvalidInput that names each field in `where`."""
    cpf, rg = _typed("cpf", fields.get("cpf")), _typed("rg", fields.get("rg"))
    if cpf is None and rg is None:
        raise _wrong("cpf", "um CPF ou um RG", "nada", "Preencha ao menos um dos dois.")
    wrongs = Wrongs()
    parsed = Cpf.parse(cpf) if cpf is not None else None
    with wrongs.noted():
        if cpf is not None and (parsed is None or re.search(r"[^0-9.\-/ ]", cpf)):
            expected = "11 algarismos com dígitos verificadores que conferem"
            raise _wrong("cpf", expected, "outro número", "Confira o CPF.")
    bare = re.sub(r"[.\-/ ]", "", rg).upper() if rg is not None else None
    with wrongs.noted():
        if bare is not None and not (rg_is_valid(bare) or long_rg_is_valid(bare)):
            raise _wrong("rg", "de 7 a 13 algarismos (o último de 8 ou 9 pode ser X)", "outra forma", "Confira o RG.")
    wrongs.end()
    return Document(cpf=parsed.digits if parsed else None, rg=bare)


async def correct(
    seen: StoredAppointment, values: Mapping[Kind, Address | Document], *, store: AppointmentStore, cache: Cache | None
) -> StoredAppointment | None:
    """Store a person's values and let every equal address text have them from now on.

    Returns the appointment as it is now; None when somebody wrote on it since it was read.
    """
    after = await store.correct(seen, values)
    if after is None:
        return None
    address = values.get(Kind.ADDRESS)
    text = seen.texts[Kind.ADDRESS].text
    if cache is not None and isinstance(address, Address) and text:
        await cache.put_answers({text: address})
    return after


@dataclass(slots=True)
class Corrected:
    """What a correction of many wrote, or in a dry run would write.

    Attributes:
        changed: appointments.
        equal: those that say so already, or that nobody asks about.
        skipped: those that would have no valid address, by what is wrong.
    """

    changed: int = 0
    equal: int = 0
    skipped: Counter[str] = field(default_factory=Counter)


async def correct_many(
    chosen: Filter,
    wanted: Mapping[str, str | None] | Kind,
    *,
    store: AppointmentStore,
    cache: Cache,
    import_id: str | None = None,
) -> Corrected:
    """Correct every appointment of a filter, and let equal address texts to come have the same; without an import's id,
    only count.

    Args:
        chosen: which.
        wanted: fields of the address that hold for all, each keeps its others; or the kind that is not needed.
        store: where they are.
        cache: what remembers the answers.
        import_id: what the correction is followed and undone by; its end is noted there, and what it teaches.

    Raises:
        InvalidInput: they are more than 10,000; nothing was written.
    """
    done, found, seen_so_far = Corrected(), list[Given](), 0
    async for page in store.each(replace(chosen, order=Order.SHEET), most=_MOST + 1):
        found += [(seen, value) for seen in page for value in _value_for(seen, wanted, done)]
        seen_so_far += len(page)
    if seen_so_far > _MOST:
        fix = "Acrescente um filtro, como a unidade ou o dia, e corrija por partes."
        raise _wrong("filtro", f"no máximo {number(_MOST)} agendamentos", "mais que isso", fix)
    done.changed = len(found)
    if import_id is not None:
        done.changed = await store.correct_many(found, import_id)
        await cache.put_answers(_agreed(found))
        await store.questions.learned(import_id, [said async for said in _lessons(found)])
        ended = ImportNotes(state=ImportState.FINISHED, rows=seen_so_far, used=seen_so_far)
        ended |= {"changed": done.changed, "equal": done.equal}
        await store.imports.end(import_id, **ended)
    return done


async def _lessons(found: Sequence[Given]) -> AsyncIterator[tuple[StoredAppointment, ClinicWord]]:
    """What the answers to open texts say of districts' short names, each text once."""
    asked = {canonical(seen.texts[Kind.ADDRESS].text): (seen, values) for seen, values in found}
    for seen, values in asked.values():
        text, address = seen.texts[Kind.ADDRESS], values.get(Kind.ADDRESS)
        if text.open_reason is not None and isinstance(address, Address) and (word := lesson(text.text, address)):
            yield seen, word
        await asyncio.sleep(0)  # some milliseconds of rules each


def _agreed(found: Sequence[Given]) -> dict[str, Address | None]:
    """What every row of an address text is given; a text whose rows are given different things tells nothing."""
    said: dict[str, set[Address | Document | None]] = defaultdict(set)
    for seen, values in found:
        if Kind.ADDRESS in values:
            said[canonical(seen.texts[Kind.ADDRESS].text)].add(values[Kind.ADDRESS])
    alike = {text: next(iter(given)) for text, given in said.items() if len(given) == 1}
    return {text: one for text, one in alike.items() if not isinstance(one, Document)}


def _value_for(
    seen: StoredAppointment, wanted: Mapping[str, str | None] | Kind, done: Corrected
) -> Iterator[Mapping[Kind, Address | Document | None]]:
    """What is to be written on one appointment; nothing where it is counted among the others."""
    if isinstance(wanted, Kind):
        if seen.texts[wanted].open_reason is None:
            done.equal += 1
        else:
            yield {wanted: None}
        return
    text = seen.texts[Kind.ADDRESS]
    try:
        address = address_of({**(text.value or text.understood or {}), **wanted})
    except InvalidInput as wrong:
        done.skipped[f"{wrong.where}: esperado {wrong.expected}"] += 1
        return
    if text.value == address.as_dict():
        done.equal += 1
    else:
        yield {Kind.ADDRESS: address}


def _typed(name: str, value: str | None) -> str | None:
    text = clean(value) if value else ""
    if len(text) > _LONGEST:
        raise _wrong(name, f"no máximo {_LONGEST} caracteres", f"{len(text)}", "Encurte o texto.")
    return text or None


def state_of(text: str) -> str:
    """The sigla of a state by sigla or name. Raises InvalidInput."""
    by_name = {name_key(name): uf for uf, name in UF_NAMES.items()}
    uf = text.upper() if text.upper() in UF_NAMES else by_name.get(name_key(text))
    if uf is None:
        raise _wrong("estado", "a sigla de um estado, como SP", "outro texto", "Escolha o estado.")
    return uf


def _cep(text: str | None, state: str) -> str | None:
    if text is None:
        return None
    found = _CEP.fullmatch(text.replace(".", "").replace(" ", ""))
    if found is None:
        raise _wrong("cep", "8 algarismos", "outra forma", "Escreva como 01001-000, ou deixe vazio.")
    cep = f"{found[1]}-{found[2]}"
    if uf_of_cep(cep) != state:
        raise _wrong("cep", f"um CEP de {state}", "um CEP de outro estado", "Confira o CEP e o estado.")
    return cep


def _wrong(field: str, expected: str, found: str, fix: str) -> InvalidInput:
    return InvalidInput(where=field, expected=expected, found=found, fix=fix)
