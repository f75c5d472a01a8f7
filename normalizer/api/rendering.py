"""Templates of the pages: the filters and words they use, and what an operator does about a cause.

Apart from the routes, so that every page uses them, and the one that is served before a service answers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fastapi import Request, Response
from fastapi.templating import Jinja2Templates

from normalizer.api.access import Role
from normalizer.domain.decision import Reason
from normalizer.domain.gazetteer import UF_NAMES
from normalizer.domain.wording import duration, many, money, number
from normalizer.queue.group import ABORTED, CRASHED
from normalizer.store.clinic import BRASILIA

if TYPE_CHECKING:
    from normalizer.api.sheets import PreviewView

HERE: Final = Path(__file__).parent
_ORIGINS: Final = {"regras": "regra", "cache": "cache", "llm": "IA", "manual": "pessoa"}
_STATES: Final = {"running": "Ativo", "paused": "Pausado", "draining": "Esvaziando"}
_STATUS: Final = {"pendente": "na fila", "concluido": "concluído", "revisar": "revisar", "falhou": "falhou"}
_ATTENTION: Final = {
    "data": ("Data que não se leu", "Veja o que foi escrito, e corrija na planilha ou no sistema."),
    "documento": ("Número recusado ao lado de outro que vale", "Confira com o paciente: o outro foi gravado."),
    "conflito": ("Endereço que a base de CEPs contradiz", "Abra, compare e confirme com o paciente antes da coleta."),
}
_POLICIES: Final = {
    "dispensado": "não faz falta",
    "coleta": "falta só onde se colhe em casa",
    "sempre": "falta sempre",
}
_ADDRESS_LABELS: Final = {
    "rua": "Rua",
    "numero": "Número",
    "complemento": "Complemento",
    "bairro": "Bairro",
    "cidade": "Cidade",
    "estado": "UF",
    "cep": "CEP",
}


def _of_who_asks(request: Request) -> dict[str, Any]:
    """Whether that is an operator, and has a session to end."""
    role = getattr(request.state, "role", None)  # none yet at the door
    return {"operator": role == Role.OPERATOR, "session": not request.app.state.access.is_open}


templates = Jinja2Templates(directory=HERE / "templates", context_processors=[_of_who_asks])  # autoescapes .html


def html(request: Request, template: str, status: int = 200, /, **context: Any) -> Response:
    """A template as the answer."""
    return templates.TemplateResponse(request, template, context, status)


def moment(value: datetime | None) -> str:
    """In Brasília: the hour today, else the day too."""
    if value is None:
        return "–"
    local = (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(BRASILIA)
    return f"{local:%H:%M}" if local.date() == datetime.now(BRASILIA).date() else f"{local:%d/%m %H:%M}"


def one_line(value: Mapping[str, Any] | None) -> str:
    """A normalized address as people write it."""
    if not value:
        return ""
    street = ", ".join(str(value[name]) for name in ("rua", "numero", "complemento") if value.get(name))
    city = " - ".join(str(value[name]) for name in ("cidade", "estado") if value.get(name))
    return ", ".join(part for part in (street, value.get("bairro"), city, value.get("cep")) if part)


def segments(progress: Any) -> list[tuple[str, str, int, float, float]]:
    """The bar: (name, label, how many, from %, width %) of each part that is not empty."""
    parts = [
        ("cache", "cache", progress.cache),
        ("regras", "regra", progress.regras),
        ("llm", "IA", progress.llm),
        ("manual", "pessoa", progress.manual),
        ("revisar", "revisar", progress.revisar),
        ("falhou", "falhas", progress.falhou),
        ("pendente", "na fila", progress.pendente),
    ]
    found, start = [], 0.0
    for name, label, count in parts:
        if count and progress.total:
            width = 100 * count / progress.total
            found.append((name, label, count, round(start, 3), round(width, 3)))
            start += width
    return found


def button(report: PreviewView) -> str:
    """What the button of a preview does, in as few words: `Importar 37 novos e reler 2`."""
    told = [
        (report.novas, f"importar {many(report.novas, 'novo')}"),
        (report.alteradas, f"reler {many(report.alteradas, 'alterado')}"),
        (report.atualizadas, f"atualizar {number(report.atualizadas)}"),
    ]
    said = [words for count, words in told if count]
    if not said:
        return "Importar assim mesmo"
    whole = f"{', '.join(said[:-1])} e {said[-1]}" if len(said) > 1 else said[0]
    return whole[0].upper() + whole[1:]


_FOR_REASON: Final = {
    Reason.ADDRESS_MISSING: "Peça o endereço ao paciente e preencha-o na planilha.",
    Reason.ADDRESS_JUNK: "O texto não traz endereço: corrija a célula de origem.",
    Reason.ADDRESS_FOREIGN: "Endereços de fora do Brasil não são normalizados; confira o texto.",
    Reason.STREET_UNKNOWN: "Informe a rua por inteiro, ou corrija aqui.",
    Reason.CITY_UNKNOWN: "Acrescente a cidade ao endereço, ou corrija aqui.",
    Reason.STATE_UNKNOWN: "Acrescente a UF ao endereço, ou corrija aqui.",
    Reason.NUMBER_AMBIGUOUS: "Há mais de um número possível: diga qual é o da casa.",
    Reason.DISTRICT_AMBIGUOUS: "Diga qual é o bairro.",
    Reason.ADDRESS_AMBIGUOUS: "O texto se lê de mais de um modo: escolha a leitura certa.",
    Reason.CITY_STATE_CONFLICT: "Confira se a cidade fica mesmo nesse estado.",
    Reason.CEP_STATE_CONFLICT: "O CEP é de outro estado: confira os dois.",
    Reason.TEXT_UNEXPLAINED: "Parte do texto não cabe em campo nenhum: confira.",
    Reason.TEXT_TOO_LONG: "Deixe na célula só o endereço.",
    Reason.DOCUMENT_MISSING: "Peça CPF ou RG ao paciente.",
    Reason.DOCUMENT_JUNK: "A célula não traz CPF nem RG: confira a coluna.",
    Reason.CPF_CHECK_DIGIT: "O CPF tem um algarismo trocado: confira com o paciente.",
    Reason.CPF_LENGTH: "O CPF precisa ter 11 algarismos.",
    Reason.CPF_MASKED: "O CPF veio com asteriscos: exporte-o por inteiro.",
    Reason.EXCEL_SCIENTIFIC: "Formate a coluna como Texto no Excel e exporte de novo: os algarismos se perderam.",
    Reason.RG_INVALID: "O RG precisa ter de 7 a 9 algarismos; mais, só com o órgão emissor (RS, BA, CE, MA).",
    Reason.DOCUMENT_AMBIGUOUS: "Diga qual número é o CPF e qual é o RG.",
    Reason.NOT_TEXT: "O sistema de origem gravou outra coisa que um texto: corrija-o lá, ou aqui.",
    Reason.DOCUMENT_OF_OTHERS: "O documento é da mãe, do responsável ou do titular: peça o do paciente.",
    Reason.DOCUMENT_OF_SEVERAL: "A célula traz vários pacientes: diga qual documento é deste.",
    Reason.NOT_GROUNDED: "A IA respondeu o que não está no texto, e nada foi gravado: corrija aqui.",
    Reason.MODEL_NO_ANSWER: "A IA não soube ler: corrija aqui.",
    Reason.MODEL_REFUSED: "A IA recusou o texto: corrija aqui.",
    Reason.NO_MODEL_KEY: "Falta a chave da IA: avise quem cuida do servidor; depois, “Reler o que está em revisão”.",
    Reason.MODEL_BUDGET: "O orçamento de hoje acabou: espere o dia virar e use “Reler o que está em revisão”.",
}
_FOR_FAILURE: Final = {
    ABORTED: "O sistema de origem cancelou o pedido: use “Tentar falhas de novo” se ainda for preciso.",
    CRASHED: "Este agendamento interrompeu o trabalho várias vezes: confira o texto, corrija aqui e avise o suporte.",
}
_ELSE: Final = "Use “Tentar falhas de novo”; se falhar outra vez, corrija aqui e avise quem cuida do servidor."


_VARIABLES: Final = {
    "OPENAI_API_KEY": "chave da IA",
    "DAILY_BUDGET_USD": "orçamento do dia",
    "MONGODB_URL": "o endereço configurado",
    "REDIS_URL": "o endereço configurado",
    "ARQ_QUEUE_NAMES": "as filas dos workers",
}
_VARIABLE: Final = re.compile("|".join(_VARIABLES))


def plain(text: str) -> str:
    """A message for operators: what a variable holds instead of its name."""
    return _VARIABLE.sub(lambda found: _VARIABLES[found[0]], text)


def for_cause(cause: str) -> str:
    """What an operator does about `motivo` or `erro`."""
    if cause in _FOR_FAILURE:
        return _FOR_FAILURE[cause]
    try:
        return _FOR_REASON[Reason(cause)]
    except (ValueError, KeyError):
        return _ELSE


templates.env.filters |= {
    "button": button,
    "number": number,
    "money": money,
    "many": many,
    "duration": duration,
    "moment": moment,
    "instant": lambda at_ms: moment(datetime.fromtimestamp(at_ms / 1000, UTC)),
    "one_line": one_line,
    "segments": segments,
    "advice": for_cause,
    "plain": plain,
}
templates.env.globals |= {
    "origins": _ORIGINS,
    "attention": _ATTENTION,
    "policies": _POLICIES,
    "states": _STATES,
    "statuses": _STATUS,
    "ufs": UF_NAMES,
    "address_labels": _ADDRESS_LABELS,
}
