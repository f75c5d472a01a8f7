"""Imports over HTTP: preview, start, follow, errors, undo."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from fastapi import Path as InPath
from pydantic import BaseModel, Field

from normalizer import reports
from normalizer.api.access import Operator, Reader
from normalizer.api.problems import responses
from normalizer.api.system import TheBackend
from normalizer.api.uploads import Imports, received
from normalizer.api.views import ImportView, import_view
from normalizer.errors import InvalidInput, QueueUnavailable
from normalizer.forecast import Forecast
from normalizer.imports import ImportReport
from normalizer.runtime import Backend
from normalizer.undo import undo_import

XLSX: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
_SHOWN_PROBLEMS: Final = 200
_BODY: Final = {
    "requestBody": {
        "required": True,
        "description": "O arquivo em si: xlsx, xls ou csv, reconhecido pelo conteúdo.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_SHEET_ANSWER: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {XLSX: {"schema": {"type": "string", "format": "binary"}}}}
}

router = APIRouter(prefix="/api/imports", tags=["importações"], responses=responses(401, 403, 503))


def imports_of(request: Request) -> Imports:
    """The app's one runner of imports."""
    runner: Imports = request.app.state.imports
    return runner


TheImports = Annotated[Imports, Depends(imports_of)]
ImportId = Annotated[str, InPath(min_length=1, max_length=64)]
FileName = Annotated[str | None, Query(max_length=300, description="Como as mensagens chamam o arquivo.")]


class RowProblem(BaseModel):
    """One cell or row of a sheet that cannot be used; what was found is shown by its shape only."""

    planilha: str
    linha: int | None
    coluna: str | None
    esperado: str
    encontrado: str = Field(examples=["“xxx 00”"])
    corrigir: str


class Preview(BaseModel):
    """What an import would do."""

    linhas: int
    novas: int
    alteradas: int
    atualizadas: int
    iguais: int
    custo: dict[str, Any] | None = Field(description="O que a IA custaria, como `normalizer estimate`; nulo se demora.")
    planilhas: list[str]
    planilhas_ocultas: list[str]
    planilhas_ignoradas: list[str]
    total_problemas: int
    problemas: list[RowProblem] = Field(description=f"Os primeiros {_SHOWN_PROBLEMS}.")


class Started(BaseModel):
    """An import that goes on by itself."""

    id: str = Field(examples=["6740f0c2a1b2c3d4e5f60718"])


class Undo(BaseModel):
    """What undoing did."""

    removidos: int = Field(description="Agendamentos que a importação havia criado.")
    restaurados: int = Field(description="Agendamentos que voltaram ao que eram.")
    mantidos: int = Field(description="Agendamentos que uma importação posterior já mudou.")


class ProblemPage(BaseModel):
    """Rows of the sheet that could not be used whole."""

    total: int
    itens: list[RowProblem]


def preview_of(report: ImportReport, foreseen: Forecast | None) -> Preview:
    """A dry run's report as shown."""
    return Preview(
        linhas=report.rows,
        novas=report.new,
        alteradas=report.changed,
        atualizadas=report.refreshed,
        iguais=report.equal,
        custo=foreseen.as_dict() if foreseen else None,
        planilhas=list(report.sheets),
        planilhas_ocultas=list(report.hidden_sheets),
        planilhas_ignoradas=list(report.ignored_sheets),
        total_problemas=len(report.errors),
        problemas=[
            RowProblem(
                planilha=one.sheet,
                linha=one.row,
                coluna=one.column,
                esperado=one.expected,
                encontrado=one.found,
                corrigir=one.mend,
            )
            for one in report.errors[:_SHOWN_PROBLEMS]
        ],
    )


async def known_import(backend: Backend, import_id: str) -> dict[str, Any]:
    """The import's record. 404 when there is none."""
    found = await backend.store.get_import(import_id)
    if found is None:
        raise HTTPException(404, "Não há importação com este id.")
    return found


@router.get("/modelo.xlsx", response_class=Response, responses=_SHEET_ANSWER)
async def template(_: Reader) -> Response:
    """Planilha modelo, com os títulos que a importação reconhece."""
    return sheet_response(reports.template(), "modelo-de-agendamentos.xlsx")


@router.post("/previa", openapi_extra=_BODY, responses=responses(413, 422))
async def preview(request: Request, _: Operator, imports: TheImports, nome: FileName = None) -> Preview:
    """Mostra o que a importação faria, sem gravar nada."""
    async with received(request, nome, limits=imports.limits) as upload:
        return preview_of(await imports.preview(upload), await imports.forecast(upload))


@router.post("", status_code=202, openapi_extra=_BODY, responses=responses(413, 422))
async def start(
    request: Request, response: Response, _: Operator, imports: TheImports, nome: FileName = None
) -> Started:
    """Importa uma planilha: responde assim que se sabe que ela se aproveita, e segue gravando."""
    async with received(request, nome, limits=imports.limits) as upload:
        import_id = await imports.start(upload)
    response.headers["Location"] = f"/api/imports/{import_id}"
    return Started(id=import_id)


@router.get("")
async def recent(_: Reader, backend: TheBackend) -> list[ImportView]:
    """As últimas importações."""
    return [import_view(record) for record in await backend.store.desk().imports()]


@router.get("/{import_id}", responses=responses(404))
async def one(import_id: ImportId, _: Reader, backend: TheBackend) -> ImportView:
    """Uma importação e até onde chegaram os agendamentos dela."""
    record = await known_import(backend, import_id)
    return import_view(record, await backend.store.desk().portions(str(record["id"])))


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
    rows = await backend.store.desk().problems(import_id, skip=(pagina - 1) * tamanho, limit=tamanho)
    itens = [
        RowProblem(planilha=row["planilha"], linha=row["linha"], **about) for row in rows for about in row["problemas"]
    ]
    return ProblemPage(total=int(record.get("problemas") or 0), itens=itens)


@router.get("/{import_id}/erros.xlsx", response_class=Response, responses={**_SHEET_ANSWER, **responses(404)})
async def error_sheet(import_id: ImportId, _: Operator, backend: TheBackend) -> Response:
    """O que precisa de uma pessoa, com as colunas originais, "Erro" e "Como corrigir": corrija e importe de novo."""
    record = await known_import(backend, import_id)
    content = await reports.gather(record, desk=backend.store.desk())
    return sheet_response(content, "para-corrigir.xlsx")


@router.post("/{import_id}/desfazer", responses=responses(404, 409))
async def undo(import_id: ImportId, _: Operator, backend: TheBackend) -> Undo:
    """Desfaz uma importação das últimas 24 horas."""
    record = await known_import(backend, import_id)
    try:
        undone = await undo_import(record, desk=backend.store.desk(), enqueue=backend.tasks.enqueue_many)
    except InvalidInput as refused:
        raise HTTPException(409, str(refused)) from None
    except QueueUnavailable:
        record = await known_import(backend, import_id)
        names = ("removidos", "restaurados", "mantidos")
        return Undo(**{name: int(record.get(name) or 0) for name in names})
    return Undo(removidos=undone.removed, restaurados=undone.restored, mantidos=undone.kept)


def sheet_response(content: bytes, name: str) -> Response:
    """A file to save."""
    return Response(content, media_type=XLSX, headers={"Content-Disposition": f'attachment; filename="{name}"'})
