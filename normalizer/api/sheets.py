"""Imports over HTTP: preview, start, follow, errors, undo."""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request, Response
from fastapi import Path as InPath
from fastapi.responses import JSONResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, Field

from normalizer.api.access import Operator, Reader, Role
from normalizer.api.live import LastEventId, TheBackend, TheLive
from normalizer.api.problems import known, responses
from normalizer.api.uploads import (
    FIRST_LOOK,
    FileName,
    Patience,
    Preview,
    Started,
    ThePreviews,
    TheUploads,
    patiently,
    received,
)
from normalizer.api.views import ImportView, Shape, import_view, recent_imports
from normalizer.domain.appointment import BRAND, UNIT, WhenMissing
from normalizer.domain.wording import many
from normalizer.errors import InvalidInput, TransientError
from normalizer.imports import error_sheet
from normalizer.imports.importing import ImportReport
from normalizer.imports.spreadsheet import ADDRESS_FIELDS, DOCUMENT_FIELDS, Problem, Vocabulary
from normalizer.store import CellProblem, ImportRecord

_MOST_GROUPS: Final = 100
_MOST_ROWS_SHOWN: Final = 1_000


class RowProblem(Shape):
    """One cell or row of a sheet that cannot be used; what was found is shown by its shape only."""

    planilha: str
    linha: int | None
    coluna: str | None = Field(validation_alias="column")
    esperado: str = Field(validation_alias="expected")
    encontrado: str = Field(validation_alias="found", examples=["“xxx 00”"])
    corrigir: str = Field(validation_alias="fix")


class ProposalView(Shape):
    """What a column that is not read may carry, by what its cells hold; `coluna=título=campo` accepts it."""

    coluna: str = Field(validation_alias="title", examples=["Inscrição"])
    campo: str = Field(validation_alias="field", examples=["cpf"])
    evidencia: str = Field(validation_alias="evidence", examples=["97 % são CPFs válidos"])
    exemplos: list[str] = Field(validation_alias="examples", examples=[["“000.000.000-00”"]])


class ColumnView(Shape):
    """A column: its title, the field it is read as (nulo: não é lida), por quê, e três valores."""

    titulo: str = Field(validation_alias="title", examples=["Inscrição"])
    campo: str | None = Field(validation_alias="field", examples=["cpf"])
    evidencia: str = Field(validation_alias="evidence", examples=["97 % são CPFs válidos", "pelo título"])
    exemplos: list[str] = Field(validation_alias="examples", examples=[["“000.000.000-00”"]])


class ProblemGroupView(Shape):
    """Equal problems together."""

    planilha: str = Field(validation_alias="problem.sheet")
    coluna: str | None = Field(validation_alias="problem.column")
    problema: str = Field(validation_alias="said", examples=["31/02/2026 não existe"])
    encontrado: str = Field(validation_alias="problem.found")
    corrigir: str = Field(validation_alias="problem.fix")
    vezes: int = Field(examples=[300])
    linhas: list[int] = Field(description="As primeiras 1.000.")


class LackingView(Shape):
    """Rows of a brand, or else of a unit, without an address; `/api/politicas/endereco` decides what that means."""

    marca: str | None = Field(default=None, examples=["Clínica Exemplo"])
    unidade: str | None = None
    linhas: int = Field(validation_alias="rows", examples=[1237])
    em_casa: int = Field(
        validation_alias="at_home", description="Com carro, ou exame que se colhe em casa.", examples=[20]
    )
    quando: WhenMissing = Field(description="O que vale hoje.")


class PreviewView(Shape):
    """What an import would do."""

    linhas: int = Field(validation_alias="rows")
    novas: int = Field(validation_alias="new")
    alteradas: int = Field(validation_alias="changed")
    atualizadas: int = Field(validation_alias="refreshed")
    iguais: int = Field(validation_alias="equal")
    custo: dict[str, Any] | None = Field(description="O que a IA custaria, como `normalizer estimate`; nulo se demora.")
    planilhas: list[str] = Field(validation_alias="sheets")
    planilhas_ocultas: list[str] = Field(validation_alias="hidden_sheets")
    planilhas_ignoradas: list[str] = Field(validation_alias="ignored_sheets")
    colunas_indicadas: dict[str, str] = Field(
        validation_alias="told_columns",
        description="Título → campo: o que se disse agora ou numa importação anterior.",
        examples=[{"Onde mora": "endereco_completo"}],
    )
    situacoes_desconhecidas: dict[str, int] = Field(
        validation_alias="unknown_statuses",
        description="Situação → linhas: o sistema não a conhece; grava-se Pendente e guarda-se o texto.",
        examples=[{"Em triagem": 3}],
    )
    esvaziadas: dict[str, int] = Field(
        validation_alias="emptied",
        description="Campo → linhas: há texto gravado e a célula veio vazia. Ele fica, salvo com `esvaziar=true`.",
        examples=[{"endereco_completo": 2}],
    )
    sem_endereco: list[LackingView]
    colunas: list[ColumnView] = Field(validation_alias="columns")
    faltam_colunas: list[str] = Field(
        description="`endereco` ou `documento`: nenhuma coluna o traz; diga qual, com `coluna`.",
        examples=[["documento"]],
    )
    colunas_desconhecidas: list[str] = Field(
        validation_alias="unknown_columns", description="Não são lidas; `coluna` diz o que são.", examples=[["Sexo"]]
    )
    propostas: list[ProposalView] = Field(validation_alias="proposals")
    total_problemas: int
    problemas: list[RowProblem] = Field(description="Os primeiros 200.")
    grupos: list[ProblemGroupView] = Field(description="Os problemas iguais juntos, os mais frequentes primeiro.")
    em_palavras: str = Field(examples=["37 agendamentos novos entram na fila."])


class PreviewState(BaseModel):
    """A dry run that goes on by itself."""

    id: str
    fase: str = Field(description="na fila, lendo, comparando, estimando, pronta ou recusada", examples=["comparando"])
    feitas: int = Field(examples=[12_000])
    linhas: int = Field(description="0 enquanto o arquivo é lido.", examples=[100_000])
    previa: PreviewView | None = Field(default=None, description="Quando pronta.")
    problema: str | None = Field(default=None, description="Quando recusada.")


def preview_view(preview: Preview) -> PreviewView:
    """A dry run that is ready, as shown."""
    report = preview.report
    if report is None:
        raise ValueError("a preview that is not ready")
    return PreviewView.of(
        report,
        custo=preview.foreseen.as_dict() if preview.foreseen else None,
        sem_endereco=[
            LackingView.of(
                one,
                marca=one.name if one.field == BRAND else None,
                unidade=one.name if one.field == UNIT else None,
                quando=preview.policies.by_scope.get(scope, WhenMissing.NEVER),
            )
            for scope, one in report.lacking.items()
        ],
        faltam_colunas=_lacking_columns(report),
        grupos=[
            ProblemGroupView.of(one, vezes=max(1, len(one.rows)), linhas=one.rows[:_MOST_ROWS_SHOWN])
            for one in preview.groups[:_MOST_GROUPS]
        ],
        em_palavras=outcome_of(report),
        total_problemas=preview.problems,
        problemas=[row_problem(one.sheet, one.row, one) for one in report.errors],
    )


def row_problem(sheet: str, row: int | None, one: Problem | CellProblem) -> RowProblem:
    """A problem as shown, whether it is told now or was kept with its row."""
    return RowProblem.of(one, planilha=sheet, linha=row)


def _lacking_columns(report: ImportReport) -> list[str]:
    """Which of the two texts no column carries."""
    read = {one.field for one in report.columns}
    wanted = {"endereco": ADDRESS_FIELDS | {"logradouro"}, "documento": DOCUMENT_FIELDS}
    return [name for name, fields in wanted.items() if read.isdisjoint(fields)]


def outcome_of(report: ImportReport) -> str:
    """What importing would do, in words."""
    parts = [
        (report.new, "agendamento novo entra na fila", "agendamentos novos entram na fila"),
        (report.changed, "muda de texto e é lido de novo", "mudam de texto e são lidos de novo"),
        (report.refreshed, "muda só em outros campos", "mudam só em outros campos"),
        (report.equal, "fica como está", "ficam como estão"),
    ]
    said = "; ".join(many(count, one, more) for count, one, more in parts if count)
    return f"{said}." if said else "Nada muda."


def preview_state(preview: Preview) -> PreviewState:
    """How far it is."""
    fase = ("recusada" if preview.refused else "pronta") if preview.is_over else preview.phase
    return PreviewState(
        id=preview.id,
        fase=fase,
        feitas=preview.done,
        linhas=preview.rows,
        previa=preview_view(preview) if fase == "pronta" else None,
        problema=str(preview.refused) if preview.refused else None,
    )


XLSX: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
_BODY: Final = {
    "requestBody": {
        "required": True,
        "description": "O arquivo em si: xlsx, xls ou csv, reconhecido pelo conteúdo.",
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "arquivo": {"type": "string", "format": "binary"},
                        "edicoes": {"type": "string", "description": "JSON: [{planilha, coluna, linhas, valor}]"},
                    },
                }
            },
        },
    }
}
_SHEET_ANSWER: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {XLSX: {"schema": {"type": "string", "format": "binary"}}}}
}

router = APIRouter(prefix="/api/imports", tags=["importações"], responses=responses(401, 403, 429, 503))


async def vocabulary_of(
    backend: TheBackend,
    coluna: Annotated[
        list[str] | None,
        Query(
            max_length=100,
            description="O que é uma coluna de título desconhecido, como `Onde mora=endereco_completo` "
            "(ou `=ignorar`); pode repetir-se. Ao importar, fica lembrado para este cabeçalho e esta marca.",
        ),
    ] = None,
) -> Vocabulary:
    """What titles mean: as said in this request, and as remembered."""
    return Vocabulary.of(coluna or (), await backend.store.columns.known())


TheVocabulary = Annotated[Vocabulary, Depends(vocabulary_of)]
ImportId = Annotated[str, InPath(min_length=1, max_length=64)]
Emptying = Annotated[bool, Query(description="Apaga o texto gravado onde a célula veio vazia.")]
RequestKey = Annotated[
    str | None,
    Header(alias="Idempotency-Key", min_length=1, max_length=200, description="Como o cliente chama o pedido."),
]


class Columns(BaseModel):
    """What is remembered of the titles of one header, or of all sheets of a brand."""

    de: str = Field(examples=["marca:clinica exemplo", "titulos:5f0c…"])
    colunas: dict[str, str] = Field(examples=[{"onde mora": "endereco_completo"}])


class Undo(BaseModel):
    """What undoing did so far."""

    estado: str = Field(description="desfeita, ou desfazendo enquanto segue.", examples=["desfeita"])

    removidos: int = Field(description="Agendamentos que a importação havia criado.")
    restaurados: int = Field(description="Agendamentos que voltaram ao que eram.")
    mantidos: int = Field(description="Agendamentos que alguém ou outra importação mudou depois.")


class ProblemPage(BaseModel):
    """Rows of the sheet that could not be used whole."""

    total: int
    itens: list[RowProblem]


async def new_preview(
    request: Request, previews: ThePreviews, uploads: TheUploads, vocabulary: TheVocabulary, nome: FileName = None
) -> Preview:
    """The dry run of the sheet in the request's body, just begun."""
    async with received(request, nome, limits=uploads.limits) as upload:
        return previews.begin(upload, vocabulary)


async def known_preview(
    previews: ThePreviews, preview_id: Annotated[str, InPath(min_length=1, max_length=64)]
) -> Preview:
    """One of the last minutes. 404 when there is none."""
    return known(previews.find(preview_id), "Não há prévia com este id: elas são guardadas por 15 minutos.")


NewPreview = Annotated[Preview, Depends(new_preview)]
KnownPreview = Annotated[Preview, Depends(known_preview)]


async def known_import(backend: TheBackend, import_id: ImportId) -> ImportRecord:
    """The import's record. 404 when there is none."""
    return known(await backend.store.imports.get(import_id), "Não há importação com este id.")


KnownImport = Annotated[ImportRecord, Depends(known_import)]


@router.get("/modelo.xlsx", response_class=Response, responses=_SHEET_ANSWER)
async def template(_: Reader) -> Response:
    """Planilha modelo, com os títulos que a importação reconhece."""
    return sheet_response(error_sheet.template(), "modelo-de-agendamentos.xlsx")


@router.post(
    "/previa",
    openapi_extra=_BODY,
    response_model=PreviewView,
    responses={
        202: {"model": PreviewState, "description": "A planilha é grande: veja Location."},
        **responses(413, 422),
    },
)
async def preview(_: Operator, begun: NewPreview, patience_s: Patience) -> PreviewView | Response:
    """Mostra o que a importação faria, sem gravar nada. Se demora, responde 202 e segue: veja `previas/{id}`."""
    await begun.wait(FIRST_LOOK * patience_s)
    if begun.refused is not None:
        raise begun.refused
    if begun.is_over:
        return preview_view(begun)
    headers = {"Location": f"/api/imports/previas/{begun.id}"}
    return JSONResponse(preview_state(begun).model_dump(), 202, headers)


@router.get("/previas/{preview_id}", responses=responses(404))
async def preview_progress(_: Operator, begun: KnownPreview) -> PreviewState:
    """Até onde chegou uma prévia, e o resultado dela."""
    return preview_state(begun)


@router.get("/colunas")
async def columns(_: Reader, backend: TheBackend) -> list[Columns]:
    """O que se lembra de títulos de colunas, por cabeçalho e por marca."""
    return [Columns(de=scope, colunas=known) for scope, known in (await backend.store.columns.known()).items()]


@router.post("", status_code=202, openapi_extra=_BODY, responses=responses(413, 422))
async def start(
    request: Request,
    response: Response,
    _: Operator,
    uploads: TheUploads,
    vocabulary: TheVocabulary,
    nome: FileName = None,
    esvaziar: Emptying = False,
    idempotency_key: RequestKey = None,
) -> Started:
    """Importa uma planilha: responde assim que a recebe, e segue lendo e gravando: veja `/api/imports/{id}`.

    Com `Idempotency-Key`, o mesmo pedido outra vez é a mesma importação.
    """
    async with received(request, nome, limits=uploads.limits) as upload:
        import_id = await uploads.start(upload, vocabulary, emptying=esvaziar, key=idempotency_key)
    response.headers["Location"] = f"/api/imports/{import_id}"
    return Started(id=import_id)


@router.get("")
async def recent(role: Reader, backend: TheBackend) -> list[ImportView]:
    """As importações dos últimos 30 dias, as mais novas primeiro, com o que de cada uma espera."""
    found = await recent_imports(backend.store)
    return found if role >= Role.OPERATOR else [one.for_reader() for one in found]


@router.get("/{import_id}", responses=responses(404))
async def one(import_id: ImportId, role: Reader, backend: TheBackend) -> ImportView:
    """Uma importação e até onde chegaram os agendamentos dela."""
    record = await known_import(backend, import_id)
    found = import_view(record, await backend.store.imports.progress(record.id))
    return found if role >= Role.OPERATOR else found.for_reader()


@router.get("/{import_id}/eventos", response_class=EventSourceResponse, responses=responses(404))
async def events(
    record: KnownImport,  # before the answer begins, which becomes no 404 any more
    role: Reader,
    backend: TheBackend,
    live: TheLive,
    seen: LastEventId = None,
) -> AsyncIterable[ServerSentEvent]:
    """Acompanha uma importação por Server-Sent Events: `importacao`, a cada mudança, até que nada mais dela espere."""
    shown = None
    async for snapshot in live.watch():
        try:
            found = await backend.store.imports.get(record.id)
            progress = await backend.store.imports.progress(record.id)
        except TransientError:  # told once MongoDB is back
            continue
        if found is None:  # it was refused while it was read
            return
        view = import_view(found, progress)
        if view != shown and snapshot.id != seen:
            told = view if role >= Role.OPERATOR else view.for_reader()
            yield ServerSentEvent(event="importacao", id=snapshot.id, data=told.model_dump(mode="json"))
        shown = view
        if view.fase not in {"lendo", "gravando", "gravada", "desfazendo"}:
            return


@router.get("/{import_id}/erros", responses=responses(404))
async def problems(
    import_id: ImportId,
    _: Reader,
    backend: TheBackend,
    pagina: Annotated[int, Query(ge=1, le=100)] = 1,
    tamanho: Annotated[int, Query(ge=1, le=500)] = 100,
) -> ProblemPage:
    """As linhas da planilha que não se aproveitaram, guardadas por sete dias."""
    record = await known_import(backend, import_id)
    rows = await backend.store.problems.of(import_id, skip=(pagina - 1) * tamanho, limit=tamanho)
    itens = [row_problem(row.sheet, row.number, problem) for row in rows for problem in row.problems]
    return ProblemPage(total=record.problems, itens=itens)


@router.get("/{import_id}/erros.xlsx", response_class=Response, responses={**_SHEET_ANSWER, **responses(404)})
async def sheet_to_correct(_: Operator, record: KnownImport, backend: TheBackend) -> Response:
    """O que precisa de uma pessoa, com as colunas originais, "Erro" e "Como corrigir": corrija e importe de novo."""
    content = await error_sheet.gather(record, store=backend.store)
    return sheet_response(content, "para-corrigir.xlsx")


@router.post(
    "/{import_id}/desfazer",
    responses={202: {"model": Undo, "description": "A importação é grande: veja Location."}, **responses(404, 409)},
)
async def undo(
    import_id: ImportId,
    response: Response,
    _: Operator,
    backend: TheBackend,
    uploads: TheUploads,
    patience_s: Patience,
) -> Undo:
    """Desfaz uma importação das últimas 24 horas. Se demora, responde 202 e segue: veja `/api/imports/{id}`."""
    task = uploads.undo(await known_import(backend, import_id))
    try:
        if await patiently(task, patience_s):
            await task
        else:
            response.status_code = 202
            response.headers["Location"] = f"/api/imports/{import_id}"
    except InvalidInput as refused:
        raise HTTPException(409, str(refused)) from None
    record = await known_import(backend, import_id)
    state = record.stored_state.value
    return Undo(estado=state, removidos=record.removed, restaurados=record.restored, mantidos=record.kept)


def sheet_response(content: bytes, name: str) -> Response:
    """A file to save."""
    return Response(content, media_type=XLSX, headers={"Content-Disposition": f'attachment; filename="{name}"'})
