"""Corrections by a person: an address or a document, checked as far as a fact can be checked, stored, remembered.

A correction may hold what the text does not; whether the city lies in the state and the check digits of a CPF hold is
checked all the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from normalizer.cache import Cache, Entry
from normalizer.domain.address import Address
from normalizer.domain.address.value import FIELDS
from normalizer.domain.appointment import Kind
from normalizer.domain.document import Document
from normalizer.domain.document.value import Cpf, long_rg_is_valid, rg_is_valid
from normalizer.domain.gazetteer import UF_NAMES, municipalities, name_key, uf_of_cep
from normalizer.domain.text import clean
from normalizer.errors import InvalidInput

if TYPE_CHECKING:
    from normalizer.store import AppointmentStore, StoredAppointment

_LONGEST: Final = 200
_NUMBER: Final = re.compile(r"[0-9]{1,8}|[0-9]{1,3}-[0-9]{1,4}", re.ASCII)  # block and house in one: "9-55"
_CEP: Final = re.compile(r"([0-9]{5})-?([0-9]{3})", re.ASCII)


def address_of(fields: Mapping[str, str | None]) -> Address:
    """The address of the typed fields, in its stored form. Raises InvalidInput that names the field in `where`."""
    typed = {name: _typed(name, fields.get(name)) for name in FIELDS}
    for name, label in (("rua", "a rua"), ("cidade", "a cidade"), ("estado", "o estado")):
        if typed[name] is None:
            raise _wrong(name, label, "nada", "Rua, cidade e estado são o mínimo de um endereço.")
    state, city = state_of(str(typed["estado"])), str(typed["cidade"])
    official = municipalities(name_key(city)).get(state)
    if official is None:
        mend = f"Confira o nome do município em {UF_NAMES[state]}."
        raise _wrong("cidade", f"um município de {state}", "outro nome", mend)
    if typed["numero"] is not None and not _NUMBER.fullmatch(typed["numero"]):
        mend = "Deixe vazio se não houver número (S/N); letras e apartamentos vão no complemento."
        raise _wrong("numero", "só algarismos, ou quadra e casa como 9-55", "outros caracteres", mend)
    return Address.from_dict({**typed, "estado": state, "cidade": official, "cep": _cep(typed["cep"], state)})


def document_of(fields: Mapping[str, str | None]) -> Document:
    """The document of the typed fields. Raises InvalidInput that names the field in `where`."""
    cpf, rg = _typed("cpf", fields.get("cpf")), _typed("rg", fields.get("rg"))
    if cpf is None and rg is None:
        raise _wrong("cpf", "um CPF ou um RG", "nada", "Preencha ao menos um dos dois.")
    parsed = Cpf.parse(cpf) if cpf is not None else None
    if cpf is not None and (parsed is None or re.search(r"[^0-9.\-/ ]", cpf)):
        raise _wrong("cpf", "11 algarismos com dígitos verificadores que conferem", "outro número", "Confira o CPF.")
    bare = re.sub(r"[.\-/ ]", "", rg).upper() if rg is not None else None
    if bare is not None and not (rg_is_valid(bare) or long_rg_is_valid(bare)):
        raise _wrong("rg", "de 7 a 13 algarismos (o último de 8 ou 9 pode ser X)", "outra forma", "Confira o RG.")
    return Document(cpf=parsed.digits if parsed else None, rg=bare)


async def correct(
    seen: StoredAppointment,
    values: Mapping[Kind, Address | Document],
    *,
    store: AppointmentStore,
    cache: Cache | None,
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
        await cache.put_many(Kind.ADDRESS, {text: Entry(address=address.as_dict(), manual=True)})
    return after


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


def _wrong(field: str, expected: str, found: str, mend: str) -> InvalidInput:
    return InvalidInput(where=field, expected=expected, found=found, mend=mend)
