"""The forms in which the deployed backend reads an appointment's fields; one that does not fit fails its whole page.

What a sheet says otherwise is kept beside, in fields of ours: `status_informado`, `telefone_informado`.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

from normalizer.domain.moment import parse_moment
from normalizer.domain.text import clean, fold

#: What the backend knows as `status`.
STATUSES: Final = (
    *("Pendente", "Autorização", "Cadastrar", "Agendado", "Confirmado", "Coletado", "Alterar", "Cancelado"),
    "Recoleta",
)
#: For a status nobody knows: the backend's own where there is none.
DEFAULT_STATUS: Final = "Pendente"
#: The table of docs/COOLIFY_WORKER.md: stored status, and what sheets say for it, folded.
_SAID: Final = {
    "Pendente": "a confirmar|nao confirmado|nao confirmada|aguardando|aguardando confirmacao|em aberto|aberto",
    "Autorização": "em autorizacao|aguardando autorizacao|autorizado|autorizada",
    "Cadastrar": "a cadastrar|cadastro",
    "Agendado": "agendamento de encaixe|encaixe|marcado|marcada|reagendado|reagendada|remarcado|remarcada",
    # The deployed import itself stores “Agendado” and “Efetivado” as confirmed.
    "Confirmado": "agendado|agendada|efetivado|efetivada|confirmada|marcado - confirmado",
    "Coletado": "coletada|realizado|realizada|concluido|concluida|atendido|atendida|finalizado|finalizada",
    "Alterar": "a alterar|reagendar|remarcar",
    "Cancelado": "cancelada|desmarcado|desmarcada",
    "Recoleta": "recoletar",
}
_STATUS_OF: Final = {fold(name): name for name in STATUSES} | {
    said: name for name, listed in _SAID.items() for said in listed.split("|")
}
_PHONE: Final = re.compile(
    r"(?<![0-9])(?:\+?55[ .-]{0,2})?\(?0?([1-9][1-9])\)?[ .-]{0,3}"
    r"(?:(9)[ .-]?([0-9]{4})|([2-9][0-9]{3}))[ .-]{0,3}([0-9]{4})(?![0-9])"
)


@lru_cache(maxsize=256)
def status_of(text: str) -> str | None:
    """The backend's name of a status, or None for one nobody knows."""
    return _STATUS_OF.get(" ".join(fold(clean(text)).split()))


def phone_of(text: str) -> str | None:
    """One phone of `text` as 10 or 11 digits, the first mobile before the first other; None without one."""
    found = ["".join(filter(None, match.groups())) for match in _PHONE.finditer(clean(text))]
    return next((digits for digits in found if len(digits) == 11), found[0] if found else None)


_moment: Final = lru_cache(maxsize=4096)(parse_moment)


def date_of(value: object) -> dt.datetime | None:
    """A date as the backend compares it: midnight, naive."""
    date = value.date() if isinstance(value, dt.datetime) else _moment(str(value)).date
    return None if date is None else dt.datetime.combine(date, dt.time())


def time_of(value: object) -> str | None:
    """A time of day as `HH:MM`."""
    time = _moment(str(value)).time
    return None if time is None else f"{time:%H:%M}"


def stored_form(fields: Mapping[str, Any]) -> dict[str, Any]:
    """`fields` in the backend's forms. What a form cannot hold is kept as it was written in a field of ours.

    Idempotent: what is in its form already stays. Works on rows of a sheet and on stored appointments alike.
    """
    stored = dict(fields)
    for name, form in _FORMS.items():
        if fields.get(name) is not None:
            stored[name] = form(fields[name])
    for name, holds in (("telefone", _is_phone_alone), ("status", status_of)):
        said = fields.get(name)
        if isinstance(said, str) and not holds(said):
            stored[f"{name}_informado"] = said
    return stored


def _is_phone_alone(text: str) -> bool:
    return re.sub("[^0-9]", "", text) == phone_of(text)


_FORMS: Final[Mapping[str, Callable[[Any], object]]] = {
    "data_agendamento": date_of,
    "data_confirmacao": date_of,
    "hora_agendamento": time_of,
    "hora_confirmacao": time_of,
    "telefone": lambda value: phone_of(str(value)),
    "status": lambda value: status_of(str(value)) or DEFAULT_STATUS,
}
#: Fields that have a form; what it cannot hold stands in the field of the same name and `_informado`.
FORMED: Final = frozenset(_FORMS)
