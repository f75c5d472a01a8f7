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
from normalizer.api.preview_views import PreviewState, PreviewView, RowProblem, preview_state, preview_view, row_problem
from normalizer.api.problems import responses
from normalizer.api.system import LastEventId, TheBackend, TheLive
from normalizer.api.uploads import FIRST_LOOK, Preview, Previews, Uploads, patiently, received
from normalizer.api.views import ImportView, import_view, recent_imports
from normalizer.errors import InvalidInput, TransientError
from normalizer.imports import error_sheet
from normalizer.imports.spreadsheet import Vocabulary
from normalizer.store import ImportRecord

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


def uploads_of(request: Request) -> Uploads:
    """The app's one runner of uploaded imports."""
    runner: Uploads = request.app.state.uploads
    return runner


def previews_of(request: Request) -> Previews:
    """The app's dry runs."""
    previews: Previews = request.app.state.previews
    return previews


def patience_of(request: Request) -> float:
    """How many seconds a request waits for work that goes on by itself."""
    patience_s: float = request.app.state.patience_s
    return patience_s


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


TheUploads = Annotated[Uploads, Depends(uploads_of)]
ThePreviews = Annotated[Previews, Depends(previews_of)]
Patience = Annotated[float, Depends(patience_of)]
TheVocabulary = Annotated[Vocabulary, Depends(vocabulary_of)]
ImportId = Annotated[str, InPath(min_length=1, max_length=64)]
Emptying = Annotated[bool, Query(description="Apaga o texto gravado onde a célula veio vazia.")]
RequestKey = Annotated[
    str | None,
    Header(alias="Idempotency-Key", min_length=1, max_length=200, description="Como o cliente chama o pedido."),
]
FileName = Annotated[str | None, Query(max_length=300, description="Como as mensagens chamam o arquivo.")]


class Started(BaseModel):
    """An import that goes on by itself."""

    id: str = Field(examples=["6740f0c2a1b2c3d4e5f60718"])


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


async def known_preview(
    previews: ThePreviews, preview_id: Annotated[str, InPath(min_length=1, max_length=64)]
) -> Preview:
    """One of the last minutes. 404 when there is none."""
    found = previews.find(preview_id)
    if found is None:
        raise HTTPException(404, "Não há prévia com este id: elas são guardadas por 15 minutos.")
    return found


KnownPreview = Annotated[Preview, Depends(known_preview)]


async def known_import(backend: TheBackend, import_id: ImportId) -> ImportRecord:
    """The import's record. 404 when there is none."""
    found = await backend.store.imports.get(import_id)
    if found is None:
        raise HTTPException(404, "Não há importação com este id.")
    return found


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
async def preview(
    request: Request,
    response: Response,
    _: Operator,
    previews: ThePreviews,
    uploads: TheUploads,
    patience_s: Patience,
    vocabulary: TheVocabulary,
    nome: FileName = None,
) -> PreviewView | Response:
    """Mostra o que a importação faria, sem gravar nada. Se demora, responde 202 e segue: veja `previas/{id}`."""
    async with received(request, nome, limits=uploads.limits) as upload:
        begun = previews.begin(upload, vocabulary)
    if begun.task is not None and await patiently(begun.task, FIRST_LOOK * patience_s):
        await begun.task  # re-raises an unexpected error
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
    record: Annotated[ImportRecord, Depends(known_import)],  # before the answer begins, which becomes no 404 any more
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
async def sheet_to_correct(import_id: ImportId, _: Operator, backend: TheBackend) -> Response:
    """O que precisa de uma pessoa, com as colunas originais, "Erro" e "Como corrigir": corrija e importe de novo."""
    record = await known_import(backend, import_id)
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
