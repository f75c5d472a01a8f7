"""Appointments and imports as the API shows them: the JSON shapes, and how stored records become them."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from normalizer.domain.address.postal import Verdict
from normalizer.domain.address.standard import FIELDS
from normalizer.domain.appointment import ABSENT, LABELS, Kind, Origin, Status
from normalizer.imports.spreadsheet.rows import shown
from normalizer.observability.masking import What, mask
from normalizer.store import AppointmentStore, Evidence, ImportRecord, ImportState, ProgressCounts, StoredAppointment

_SHOWN_FOR: Final = timedelta(days=30)
_MOST_IMPORTS: Final = 200
_UNREAD_DATE: Final = "data_agendamento_informado"
SOURCE_OF: Final = {
    Origin.RULES.value: "pelas regras",
    Origin.CACHE.value: "pelo cache",
    Origin.MODEL.value: "pela IA",
    Origin.MANUAL.value: "por uma pessoa",
}
_SHARES: Final = {"confirmados": Verdict.CONFIRMED, "conflitos": Verdict.CONFLICT, "sem_resposta": Verdict.READ}
_LAST_STEP: Final = {
    Status.PENDING: "na fila",
    Status.DONE: "salvo",
    Status.REVIEW: "espera uma pessoa",
    Status.FAILED: "falhou",
}


class Body(BaseModel):
    """The body of a request: a field that nobody knows is a slip, and is told."""

    model_config = ConfigDict(extra="forbid")


class Shape(BaseModel):
    """A JSON shape; a field's alias names the attribute of the stored record that fills it, as `town.name`."""

    model_config = ConfigDict(from_attributes=True, populate_by_name=True)

    @classmethod
    def of(cls, record: object, **more: Any) -> Self:
        """Of a record, but for what is worked out (`more`)."""
        aliases = {name: str(one.validation_alias or name) for name, one in cls.model_fields.items()}
        return cls(**{name: attrgetter(at)(record) for name, at in aliases.items() if name not in more}, **more)


class FieldVerdict(BaseModel):
    """What a postal base says of one field of an address."""

    veredito: str = Field(
        examples=["confirmado"], description="`lido`, `deduzido`, `confirmado`, `conflito` ou `ausente`."
    )
    base: str | None = Field(default=None, examples=["13010-010: Rua das Pitangas, Centro, Campinas - SP"])


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
    campos: dict[str, FieldVerdict] | None = Field(
        default=None, description="O que a base de CEPs diz de cada campo; nulo sem base."
    )
    acao: str | None = Field(
        default=None, examples=["nada"], description="O que fazer a seguir: `nada`, `conferir` ou `corrigir`."
    )
    sugestoes: dict[str, str] = Field(
        default={}, examples=[{"cep": "13010-010"}], description="O que a base tem e o texto não; nunca gravado por si."
    )


class AppointmentView(Shape):
    """One appointment; documents hidden and the patient's name as initials unless asked for by an operator."""

    id: str = Field(examples=["6740f0c2a1b2c3d4e5f60718"])
    id_agendamento: str | None = Field(examples=["a1"])
    paciente: str | None = Field(examples=["M. S."])
    data_agendamento: str | None = Field(examples=["10/10/2026"])
    hora_agendamento: str | None = Field(examples=["08:00"])
    nome_unidade: str | None = None
    status: str = Field(examples=["concluido"])
    causas: list[str] = Field(validation_alias="causes", examples=[[]])
    conferir: list[str] = Field(
        default=[],
        examples=[["data escrita “31/02/2026”"]],
        description="Resolvido, e pede um olhar.",
    )
    tentativas: int = Field(validation_alias="tries", examples=[1])
    atualizado_em: datetime | None = Field(validation_alias="moved_at")
    import_id: str | None
    revisao: int = Field(
        validation_alias="revision", description="Cresce a cada mudança; mande-a de volta ao corrigir.", examples=[2]
    )
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
    """Some appointments, last touched first; those of one import in the order of its sheet."""

    total: int = Field(description="Até 10.001: mais que isso, use filtros.", examples=[1])
    pagina: int
    tamanho: int
    itens: list[AppointmentView]
    depois: str | None = Field(default=None, description="Mande-o de volta para a página seguinte; nulo na última.")


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


class ImportView(Shape):
    """One import: counts and names, no patient's data."""

    model_config = ConfigDict(json_schema_extra={"description": "Uma importação."})

    id: str = Field(examples=["6740f0c2a1b2c3d4e5f60718"])
    arquivo: str = Field(validation_alias="file", examples=["agenda.xlsx"])
    estado: str = Field(examples=["concluida"])
    fase: str = Field(
        description="lendo, gravando, gravada (os agendamentos ainda se normalizam), normalizada; senão, o estado.",
        examples=["normalizada"],
    )
    criada_em: datetime | None = Field(validation_alias="created_at")
    linhas: int = Field(validation_alias="rows")
    lidas: int = Field(0, validation_alias="read", description="Enquanto a planilha é lida, antes de gravar.")
    gravadas: int = Field(validation_alias="written")
    recusa: str | None = Field(
        None, validation_alias="refusal", description="Quando recusada: por quê, e como corrigir."
    )
    novas: int = Field(0, validation_alias="new")
    alteradas: int = Field(0, validation_alias="changed")
    atualizadas: int = Field(0, validation_alias="refreshed", description="Mudaram só outros campos, como o telefone.")
    iguais: int = Field(0, validation_alias="equal")
    problemas: int = Field(0, validation_alias="problems")
    planilhas_ocultas: list[str] = Field([], validation_alias="hidden_sheets")
    planilhas_ignoradas: list[str] = Field([], validation_alias="ignored_sheets")
    desfeitas: int = Field(default=0, description="Agendamentos apagados, restaurados ou mantidos ao desfazer.")
    desfaz_ate: datetime | None = Field(default=None, description="Até quando pode ser desfeita; nulo se não pode.")
    erros_ate: datetime | None = Field(default=None, description="Até quando as linhas com problema se podem baixar.")
    progresso: Progress | None = None
    confirmados: int = Field(default=0, description="Endereços que a base de CEPs confirma.")
    conflitos: int = Field(default=0, description="Endereços que a base de CEPs contradiz.")
    sem_resposta: int = Field(default=0, description="Endereços de que a base de CEPs nada diz.")

    def for_reader(self) -> Self:
        """The same with the file's name masked, wherever it stands: it may be a patient's."""
        shown = mask(self.arquivo, What.FILE)
        refusal = self.recusa.replace(self.arquivo, shown) if self.recusa else None
        return self.model_copy(update={"arquivo": shown, "recusa": refusal})


def appointment_view(stored: StoredAppointment, *, clear: bool) -> AppointmentView:
    """A stored appointment as shown."""
    return AppointmentView.of(stored, **_worked_out(stored, clear=clear))


def appointment_detail(
    stored: StoredAppointment, about_import: ImportRecord | None, *, clear: bool
) -> AppointmentDetail:
    """A stored appointment with its way so far."""
    way = _timeline(stored, about_import, clear=clear)
    return AppointmentDetail.of(stored, **_worked_out(stored, clear=clear), linha_do_tempo=way)


def import_view(record: ImportRecord, counted: ProgressCounts | None = None) -> ImportView:
    """A stored import as shown."""
    now = datetime.now(UTC)
    evidence = Counter[str]() if counted is None else counted.by_evidence
    return ImportView.of(
        record,
        estado=record.state(now).value,
        fase=_phase(record, record.state(now), counted),
        desfeitas=record.removed + record.restored + record.kept,
        desfaz_ate=record.undo_until(now),
        erros_ate=record.problems_until(now),
        progresso=None if counted is None else progress_of(counted),
        **{name: evidence[verdict.value] for name, verdict in _SHARES.items()},
    )


async def recent_imports(store: AppointmentStore) -> list[ImportView]:
    """Every import of the last days, with how far its appointments are."""
    records = await store.imports.recent(_MOST_IMPORTS, since=datetime.now(UTC) - _SHOWN_FOR)
    return [import_view(one, await store.imports.progress(one.id)) for one in records]


def _phase(record: ImportRecord, state: ImportState, counted: ProgressCounts | None) -> str:
    """Where an import stands for who waits for its results: written is not normalized yet."""
    if state is ImportState.RUNNING:
        return "gravando" if record.rows else "lendo"
    if state is not ImportState.FINISHED:
        return state.value
    return "gravada" if counted is not None and counted.by_status[Status.PENDING] else "normalizada"


def progress_of(counted: ProgressCounts) -> Progress:
    """Concluded by who read the address; the rest by status."""
    rest = {status.value: counted.by_status[status] for status in Status if status is not Status.DONE}
    return Progress(**{origin.value: counted.by_origin[origin] for origin in Origin}, **rest, total=counted.total)


def _worked_out(stored: StoredAppointment, *, clear: bool) -> dict[str, Any]:
    name = stored.fields.get("nome_paciente", "")
    said = ["id_agendamento", "data_agendamento", "hora_agendamento", "nome_unidade"]
    if _UNREAD_DATE in stored.fields:
        said.remove("data_agendamento")  # whatever stands there is shown as what is to be looked at
    return {
        "data_agendamento": None,
        **{field: stored.fields.get(field) for field in said},
        "paciente": (name if clear else mask(name, What.NAME)) or None,
        "status": stored.status.value,
        "conferir": _to_look_at(stored, clear=clear),
        "documentos": "abertos" if clear else "mascarados",
        "endereco": _text_of(stored, Kind.ADDRESS, clear=clear),
        "documento": _text_of(stored, Kind.DOCUMENT, clear=clear),
    }


def _to_look_at(stored: StoredAppointment, *, clear: bool) -> list[str]:
    found = []
    if date := stored.fields.get(_UNREAD_DATE):
        found.append(f"data escrita {f'“{date}”' if clear else shown(date)}")
    document = stored.texts[Kind.DOCUMENT]
    if document.reason and document.value is not None:
        found.append(f"documento: {document.reason}")
    address = stored.texts[Kind.ADDRESS]
    return [*found, *(address.evidence.objections if address.evidence else ())]


def _text_of(stored: StoredAppointment, kind: Kind, *, clear: bool) -> Text:
    found = stored.texts[kind]
    text, value, understood = found.text, found.value, found.understood
    if kind is Kind.ADDRESS and value is not None:
        value = {name: value.get(name) for name in FIELDS}
    if not clear:
        text = mask(text, What.of(kind), understood=[*(value or {}).values(), *(understood or {}).values()])
        if kind is Kind.DOCUMENT:
            value = value and {name: mask(part, What.DOCUMENT) if part else None for name, part in value.items()}
            understood = None
    return Text(
        texto=text,
        normalizado=None if value is None else dict(value),
        origem=found.origin,
        motivo=found.reason,
        entendido=None if understood is None else dict(understood),
        deduzido=[] if value is None else list(found.inferred),
        **_evidence_of(found.evidence),
    )


def _evidence_of(evidence: Evidence | None) -> dict[str, Any]:
    if evidence is None:
        return {}
    fields = {name: FieldVerdict(veredito=said, base=row or None) for name, (said, row) in evidence.fields.items()}
    return {"campos": fields, "acao": evidence.action, "sugestoes": dict(evidence.suggestions)}


def _timeline(stored: StoredAppointment, about_import: ImportRecord | None, *, clear: bool) -> list[Step]:
    steps = []
    if about_import is not None:
        file = about_import.file if clear else mask(about_import.file, What.FILE)
        steps.append(Step(etapa="importado", em=about_import.created_at, detalhe=file or None))
    ended = None if stored.status is Status.PENDING else stored.moved_at
    for kind, text in stored.texts.items():
        if text.origin in {None, ABSENT}:
            continue
        label, by = LABELS[kind], SOURCE_OF.get(str(text.origin), "")
        if text.origin == Origin.MANUAL:
            steps.append(Step(etapa=f"{label} corrigido {by}", em=text.corrected_at))
        elif text.value is None:
            steps.append(Step(etapa=f"{label} deixado em revisão {by}", em=ended, detalhe=text.reason))
        else:
            steps.append(Step(etapa=f"{label} lido {by}", em=ended, detalhe=text.reason))
    steps.append(Step(etapa=_LAST_STEP[stored.status], em=stored.moved_at, detalhe=stored.error))
    return steps
