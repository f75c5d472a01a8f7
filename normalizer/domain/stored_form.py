"""The forms in which the deployed backend reads an appointment's fields; one that does not fit fails its whole page.

What a sheet says otherwise is kept beside, in fields of ours: `status_informado`, `telefone_informado`.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from normalizer.domain.text import clean, fold

# -- when: dates and times as sheets write them -----------------------------------------------------------------------

_MONTHS: Final = (
    *("jan|janeiro|january", "fev|fevereiro|feb|february", "mar|marco|march", "abr|abril|apr|april", "mai|maio|may"),
    *("jun|junho|june", "jul|julho|july", "ago|agosto|aug|august", "set|setembro|sep|sept|september"),
    *("out|outubro|oct|october", "nov|novembro|november", "dez|dezembro|dec|december"),
)
_MONTH_OF: Final = {name: number for number, names in enumerate(_MONTHS, 1) for name in names.split("|")}
_DATE: Final = re.compile(
    rf"""(?<![0-9])(?:
          (?P<iso>[0-9]{{4}}\ ?[-/.]\ ?[0-9]{{1,2}}\ ?[-/.]\ ?[0-9]{{1,2}})
        | (?P<plain>[0-9]{{1,2}}\ ?[-/.]\ ?[0-9]{{1,2}}\ ?[-/.]\ ?(?:[0-9]{{4}}|[0-9]{{2}}))
        | (?P<packed>(?:19|20)[0-9]{{2}}[01][0-9][0-3][0-9])
        | (?P<named>[0-9]{{1,2}}o?[ /.-]+(?:de\ )?(?:{"|".join(sorted(_MONTH_OF, key=len, reverse=True))})\.?
                    [ ,/.-]+(?:de\ )?(?:[0-9]{{4}}|[0-9]{{2}}))
        )(?![0-9])""",
    re.VERBOSE,
)
_TIME: Final = re.compile(
    r"""(?<![0-9:])(?P<hour>[0-9]{1,2})
        (?:\ ?[:h]\ ?(?P<minute>[0-9]{2})(?:[:m]\ ?(?P<second>[0-9]{2})(?:[.,][0-9]+)?)?(?![0-9:])
           | (?=\ ?(?:h(?:s|rs?|oras?)?|[ap]\.?m\.?)\b)
           | (?=\ da\ (?:manha|tarde|noite)\b)
           | (?=\ (?:as|a|e|ate|-)\ [0-9]{1,2}(?:\ ?[h:]|$))
           | (?=-[0-9]{1,2}\ ?h) )
        (?:\ ?(?:min(?:utos)?|m|h(?:s|rs?|oras?)?)\b\.?)?
        (?:\ ?(?P<half>[ap])\.?m\b\.?)?
        (?:\ da\ (?P<part>manha|tarde|noite)\b)?""",
    re.VERBOSE,
)
_ZONE: Final = re.compile(r"(?<=[0-9])\ ?(?:z|utc|gmt|(?:utc|gmt)?(?P<sign>[+-])(?P<hours>[0-9]{2}):?(?:[0-9]{2})?)$")
_RANGE_END: Final = re.compile(r"^\s*(?:as|a|e|ate|-)\s*[0-9]{1,2}(?![0-9:/.-])")
_UNTIL: Final = re.compile(r"\s*ate\b")  # tells an end, and no start
_BRASILIA: Final = -3
# Acre to Fernando de Noronha: a time with one of these offsets is the clinic's own, another is told in Brasília's.
_HERE: Final = range(-5, -1)
_FILLERS: Final = (
    "a as ate das da do dia de e entre h hs hrs hora horas horario inicio previsto brasilia brt t am pm feira "
    "seg segunda ter terca qua quarta qui quinta sex sexta sab sabado dom domingo "
    "mon monday tue tuesday wed wednesday thu thursday fri friday sat saturday sun sunday"
)
_FILLING: Final = frozenset(_FILLERS.split(" "))
_WORDS: Final = re.compile(r"[0-9a-z]+")
# Days of Excel's calendar that an appointment may stand on: 1982 to 2064.
_SERIALS: Final = range(30_000, 60_000)
_EPOCH: Final = dt.datetime(1899, 12, 30)
# Excel shows a time of day alone as a moment of its first days.
_FIRST_YEAR: Final = 1905
_NOON: Final = re.compile(r"\bmeio[ -]?dia\b")


@dataclass(frozen=True, slots=True)
class Moment:
    """What a text says of when: a date, a time of day, or both. `whole`: nothing else stands in it."""

    date: dt.date | None
    time: dt.time | None
    whole: bool


def parse_moment(text: str) -> Moment:
    """Read date and time from `text`. Total: what cannot be read is None, and then `whole` is False."""
    if usual := _USUAL.fullmatch(text):  # a sheet's days and times are few, their pairs are not
        day, hour = _known(usual[1]), _known(usual[2])
        if day.date is not None and hour.time is not None:
            return Moment(day.date, hour.time, whole=True)
    return _read(text)


def _read(text: str) -> Moment:
    left = _NOON.sub("12:00", fold(clean(text))).replace("–", "-").strip(" '\"")
    if (serial := _serial(left)) is not None:
        return serial
    left, zone = _split_zone(left)
    date, left = _take_date(left)
    time, left = _take_time(left)
    if zone is not None and date is not None and time is not None:
        here = _in_brazil(date, time, zone)
        date, time = here.date(), here.time()
    if date is not None and date.year < _FIRST_YEAR:
        return Moment(None, time, time is not None)
    rest = [word for word in _WORDS.findall(left) if word not in _FILLING]
    return Moment(date, time, not rest and (date is not None or time is not None))


_known: Final = lru_cache(maxsize=4096)(_read)
_USUAL: Final = re.compile("([0-9]{2}/[0-9]{2}/[0-9]{4}) ([0-9]{2}:[0-9]{2}(?::[0-9]{2})?)")


def _serial(text: str) -> Moment | None:
    """Excel's own number of a day, a fraction of a day, or both, as a cell without a date format shows it."""
    try:
        number = float(text.replace(",", "."))
    except ValueError:
        return None
    whole = int(number) if 0 <= number < _SERIALS.stop else -1
    fraction = number - whole
    if whole not in _SERIALS and not (whole == 0 and 0 < fraction < 1):
        return None
    moment = _EPOCH + dt.timedelta(days=whole, minutes=round(fraction * 24 * 60))
    return Moment(
        moment.date() if whole else None,
        moment.time() if fraction else None,
        whole=True,
    )


def _take_date(text: str) -> tuple[dt.date | None, str]:
    for match in _DATE.finditer(text):
        date = _date_of(match)
        if date is not None:
            return date, f"{text[: match.start()]} {text[match.end() :].removeprefix('t')}"
    return None, text


def _date_of(match: re.Match[str]) -> dt.date | None:
    written = match.group()
    if match["packed"]:
        year, month, day = written[:4], written[4:6], written[6:]
    elif match["named"]:
        day, year = re.findall("[0-9]+", written)
        month = str(next(_MONTH_OF[word] for word in re.findall("[a-z]+", written) if word in _MONTH_OF))
    else:
        parts = re.findall("[0-9]+", written)
        day, month, year = parts if match["plain"] else reversed(parts)
    try:
        return dt.date(int(year) + (2000 if len(year) == 2 else 0), int(month), int(day))
    except ValueError:
        return None


def _take_time(text: str) -> tuple[dt.time | None, str]:
    """The first time of day of `text`, and what is left without any: the end of a range goes with its start."""
    times = [] if _UNTIL.match(text) else list(_TIME.finditer(text))
    start = _time_of(times[0]) if times else None
    if start is None or any(_time_of(match) is None for match in times):
        return None, text
    # `8 às 9h`: the second number is a time as well, whatever stands behind it
    tail = _RANGE_END.sub("", text[times[0].end() :])
    return start, f"{text[: times[0].start()]} {_TIME.sub(' ', tail)}"


def _time_of(match: re.Match[str]) -> dt.time | None:
    hour = int(match["hour"])
    if match["half"] and not 1 <= hour <= 12:
        return None
    if match["half"]:
        hour = hour % 12 + (12 if match["half"] == "p" else 0)
    elif match["part"] in {"tarde", "noite"} and hour < 12:
        hour += 12
    try:
        return dt.time(hour, int(match["minute"] or 0))
    except ValueError:
        return None


def _split_zone(text: str) -> tuple[str, int | None]:
    """The offset from UTC that ends the text, in hours, where it is not one of Brazil's own."""
    match = _ZONE.search(text) if ":" in text else None
    if match is None:
        return text, None
    hours = int(f"{match['sign']}{match['hours']}") if match["sign"] else 0
    return text[: match.start()], None if hours in _HERE else hours


def _in_brazil(date: dt.date, time: dt.time, hours: int) -> dt.datetime:
    return dt.datetime.combine(date, time) + dt.timedelta(hours=_BRASILIA - hours)


# -- the forms --------------------------------------------------------------------------------------------------------

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
