"""Appointments and imports as the API shows them: the JSON shapes, and how stored records become them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from normalizer.api import masking
from normalizer.domain.address.value import FIELDS
from normalizer.domain.appointment import Kind, Origin, Status
from normalizer.imports.error_sheet import causes_of
from normalizer.store import ImportRecord, Portions
from normalizer.store.identity import identity_of
from normalizer.store.records import RESULT_FIELD, ours, revision_of, source_text

SOURCE_OF: Final = {
    Origin.RULES.value: "pelas regras",
    Origin.CACHE.value: "pelo cache",
    Origin.MODEL.value: "pela IA",
    Origin.MANUAL.value: "por uma pessoa",
}


class Text(BaseModel):
    """One text of an appointment: as typed, as normalized, and by whom."""

    texto: str = Field(examples=["rua das flores,10,centro,campinas,SP"])
    normalizado: dict[str, str | None] | None = Field(
        examples=[{"rua": "Rua das Flores", "numero": "10", "cidade": "Campinas", "estado": "SP"}]
    )
    origem: str | None = Field(examples=["regras"])
    motivo: str | None = Field(examples=[None], description="Por que está em revisão, ou o que ficou de fora.")
    entendido: dict[str, str] | None = Field(default=None, description="Em revisão: os campos que ficaram claros.")
    deduzido: list[str] = Field(
        default=[], examples=[["tipo"]], description="O que o texto não diz e foi deduzido: tipo da rua, estado."
    )


class AppointmentView(BaseModel):
    """One appointment; documents hidden and the patient's name as initials unless asked for by an operator."""

    id: str = Field(examples=["6740f0c2a1b2c3d4e5f60718"])
    id_agendamento: str | None = Field(examples=["a1"])
    paciente: str | None = Field(examples=["M. S."])
    data_agendamento: str | None = Field(examples=["10/10/2026"])
    hora_agendamento: str | None = Field(examples=["08:00"])
    nome_unidade: str | None = None
    status: str = Field(examples=["concluido"])
    causas: list[str] = Field(examples=[[]])
    tentativas: int = Field(examples=[1])
    atualizado_em: datetime | None
    import_id: str | None
    revisao: int = Field(description="Cresce a cada mudança; mande-a de volta ao corrigir.", examples=[2])
    documentos: Literal["mascarados", "abertos"]
    endereco: Text
    documento: Text


class Step(BaseModel):
    """One thing that happened to an appointment."""

    etapa: str = Field(examples=["endereço lido pelas regras"])
    em: datetime | None
    detalhe: str | None = None


class AppointmentDetail(AppointmentView):
    """One appointment and its way so far."""

    linha_do_tempo: list[Step]


class AppointmentPage(BaseModel):
    """Some appointments, last touched first."""

    total: int = Field(description="Até 10.001: mais que isso, use filtros.", examples=[1])
    pagina: int
    tamanho: int
    itens: list[AppointmentView]


class Progress(BaseModel):
    """How far an import's appointments are, each counted once."""

    pendente: int = 0
    cache: int = 0
    regras: int = 0
    llm: int = 0
    manual: int = 0
    revisar: int = 0
    falhou: int = 0
    total: int = 0


class ImportView(BaseModel):
    """One import: counts and names, no patient's data."""

    model_config = ConfigDict(json_schema_extra={"description": "Uma importação."})

    id: str = Field(examples=["6740f0c2a1b2c3d4e5f60718"])
    arquivo: str = Field(examples=["agenda.xlsx"])
    estado: str = Field(examples=["concluida"])
    criada_em: datetime | None
    linhas: int
    lidas: int = Field(default=0, description="Enquanto a planilha é lida, antes de gravar.")
    gravadas: int
    recusa: str | None = Field(default=None, description="Quando recusada: por quê, e como corrigir.")
    novas: int = 0
    alteradas: int = 0
    atualizadas: int = Field(default=0, description="Mudaram só outros campos, como o telefone.")
    iguais: int = 0
    problemas: int = 0
    planilhas_ocultas: list[str] = []
    planilhas_ignoradas: list[str] = []
    desfeitas: int = Field(default=0, description="Agendamentos apagados, restaurados ou mantidos ao desfazer.")
    desfaz_ate: datetime | None = Field(default=None, description="Até quando pode ser desfeita; nulo se não pode.")
    progresso: Progress | None = None


def appointment_view(record: Mapping[str, Any], *, clear: bool) -> AppointmentView:
    """A stored appointment as shown."""
    return AppointmentView(**_fields(record, clear=clear))


def appointment_detail(
    record: Mapping[str, Any], about_import: ImportRecord | None, *, clear: bool
) -> AppointmentDetail:
    """A stored appointment with its way so far."""
    return AppointmentDetail(**_fields(record, clear=clear), linha_do_tempo=_timeline(record, about_import))


def import_view(record: ImportRecord, portions: Portions | None = None) -> ImportView:
    """A stored import as shown."""
    now = datetime.now(UTC)
    return ImportView(
        id=record.id,
        arquivo=record.file,
        estado=record.state(now).value,
        criada_em=record.created_at,
        linhas=record.rows,
        lidas=record.read,
        gravadas=record.written,
        recusa=record.refusal,
        novas=record.new,
        alteradas=record.changed,
        atualizadas=record.refreshed,
        iguais=record.equal,
        problemas=record.problems,
        planilhas_ocultas=list(record.hidden_sheets),
        planilhas_ignoradas=list(record.ignored_sheets),
        desfeitas=record.removed + record.restored + record.kept,
        desfaz_ate=record.undo_until(now),
        progresso=progress_of(portions) if portions is not None else None,
    )


def progress_of(portions: Portions) -> Progress:
    """Concluded by who read the address; the rest by status."""
    rest = {status.value: portions.by_status[status] for status in Status if status is not Status.DONE}
    return Progress(**{origin.value: portions.by_origin[origin] for origin in Origin}, **rest, total=portions.total)


def _fields(record: Mapping[str, Any], *, clear: bool) -> dict[str, Any]:
    about = ours(record)
    name = str(record.get("nome_paciente") or "")
    return {
        "id": identity_of(record),
        "id_agendamento": _text(record.get("id_agendamento")),
        "paciente": (name if clear else masking.initials(name)) or None,
        "data_agendamento": _text(record.get("data_agendamento")),
        "hora_agendamento": _text(record.get("hora_agendamento")),
        "nome_unidade": _text(record.get("nome_unidade")),
        "status": str(about.get("status")),
        "causas": causes_of(record) if about.get("status") in {Status.REVIEW, Status.FAILED} else [],
        "tentativas": int(about.get("tentativas") or 0),
        "atualizado_em": about.get("atualizado_em"),
        "import_id": _text(about.get("import_id")),
        "revisao": revision_of(record),
        "documentos": "abertos" if clear else "mascarados",
        "endereco": _text_of(record, Kind.ADDRESS, clear=clear),
        "documento": _text_of(record, Kind.DOCUMENT, clear=clear),
    }


def _text_of(record: Mapping[str, Any], kind: Kind, *, clear: bool) -> Text:
    about = ours(record).get(kind.value)
    about = about if isinstance(about, Mapping) else {}
    text, value = source_text(record, kind), record.get(RESULT_FIELD[kind])
    value = dict(value) if isinstance(value, Mapping) else None
    understood = about.get("entendido")
    if kind is Kind.ADDRESS and value is not None:
        value = {name: value.get(name) for name in FIELDS}
    if not clear:
        read = [*(value or {}).values(), *(understood or {}).values()] if isinstance(understood, Mapping | None) else []
        text = masking.address_text(text, read) if kind is Kind.ADDRESS else masking.document_text(text)
        value = masking.document_value(value) if kind is Kind.DOCUMENT else value
        understood = understood if kind is Kind.ADDRESS else None
    return Text(
        texto=text,
        normalizado=value,
        origem=about.get("origem"),
        motivo=about.get("motivo"),
        entendido=dict(understood) if isinstance(understood, Mapping) else None,
        deduzido=[str(name) for name in about.get("deduzido") or () if value is not None],
    )


def _timeline(record: Mapping[str, Any], about_import: ImportRecord | None) -> list[Step]:
    about = ours(record)
    steps = []
    if about_import is not None:
        steps.append(Step(etapa="importado", em=about_import.created_at, detalhe=about_import.file or None))
    ended = None if about.get("status") == Status.PENDING else about.get("atualizado_em")
    for kind, label in ((Kind.ADDRESS, "endereço"), (Kind.DOCUMENT, "documento")):
        found = about.get(kind.value)
        if not isinstance(found, Mapping) or not found.get("origem"):
            continue
        by = SOURCE_OF.get(found["origem"], "")
        if found["origem"] == Origin.MANUAL:
            steps.append(Step(etapa=f"{label} corrigido {by}", em=found.get("corrigido_em")))
        elif record.get(RESULT_FIELD[kind]) is None:
            steps.append(Step(etapa=f"{label} deixado em revisão {by}", em=ended, detalhe=found.get("motivo")))
        else:
            steps.append(Step(etapa=f"{label} lido {by}", em=ended, detalhe=found.get("motivo")))
    status = about.get("status")
    last = {"pendente": "na fila", "concluido": "salvo", "revisar": "espera uma pessoa", "falhou": "falhou"}
    steps.append(
        Step(etapa=last.get(str(status), str(status)), em=about.get("atualizado_em"), detalhe=about.get("erro"))
    )
    return steps


def _text(value: object) -> str | None:
    if isinstance(value, datetime):
        return f"{value:%d/%m/%Y}"
    return None if value is None or value == "" else str(value)
