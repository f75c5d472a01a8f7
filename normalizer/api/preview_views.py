"""A preview as the API shows it: what importing would do, and what stands in its way."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, Field

from normalizer.api.uploads import Preview
from normalizer.domain.policy import BRAND, UNIT, WhenMissing
from normalizer.domain.wording import many
from normalizer.imports.importing import ImportReport
from normalizer.imports.spreadsheet import ADDRESS_FIELDS, DOCUMENT_FIELDS, Problem, ProblemGroup
from normalizer.store import CellProblem

_MOST_GROUPS: Final = 100
_MOST_ROWS_SHOWN: Final = 1_000


class RowProblem(BaseModel):
    """One cell or row of a sheet that cannot be used; what was found is shown by its shape only."""

    planilha: str
    linha: int | None
    coluna: str | None
    esperado: str
    encontrado: str = Field(examples=["“xxx 00”"])
    corrigir: str


class ProposalView(BaseModel):
    """What a column that is not read may carry, by what its cells hold; `coluna=título=campo` accepts it."""

    coluna: str = Field(examples=["Inscrição"])
    campo: str = Field(examples=["cpf"])
    evidencia: str = Field(examples=["97 % são CPFs válidos"])
    exemplos: list[str] = Field(examples=[["“000.000.000-00”"]])


class ColumnView(BaseModel):
    """A column: its title, the field it is read as (nulo: não é lida), por quê, e três valores."""

    titulo: str = Field(examples=["Inscrição"])
    campo: str | None = Field(examples=["cpf"])
    evidencia: str = Field(examples=["97 % são CPFs válidos", "pelo título"])
    exemplos: list[str] = Field(examples=[["“000.000.000-00”"]])


class ProblemGroupView(BaseModel):
    """Equal problems together."""

    planilha: str
    coluna: str | None
    problema: str = Field(examples=["31/02/2026 não existe"])
    encontrado: str
    corrigir: str
    vezes: int = Field(examples=[300])
    linhas: list[int] = Field(description="As primeiras 1.000.")


class LackingView(BaseModel):
    """Rows of a brand, or else of a unit, without an address; `/api/politicas/endereco` decides what that means."""

    marca: str | None = Field(default=None, examples=["Clínica Exemplo"])
    unidade: str | None = None
    linhas: int = Field(examples=[1237])
    em_casa: int = Field(description="Com carro, ou exame que se colhe em casa.", examples=[20])
    quando: WhenMissing = Field(description="O que vale hoje.")


class PreviewView(BaseModel):
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
    colunas_indicadas: dict[str, str] = Field(
        description="Título → campo: o que se disse agora ou numa importação anterior.",
        examples=[{"Onde mora": "endereco_completo"}],
    )
    situacoes_desconhecidas: dict[str, int] = Field(
        description="Situação → linhas: o sistema não a conhece; grava-se Pendente e guarda-se o texto.",
        examples=[{"Em triagem": 3}],
    )
    esvaziadas: dict[str, int] = Field(
        description="Campo → linhas: há texto gravado e a célula veio vazia. Ele fica, salvo com `esvaziar=true`.",
        examples=[{"endereco_completo": 2}],
    )
    sem_endereco: list[LackingView]
    colunas: list[ColumnView]
    faltam_colunas: list[str] = Field(
        description="`endereco` ou `documento`: nenhuma coluna o traz; diga qual, com `coluna`.",
        examples=[["documento"]],
    )
    colunas_desconhecidas: list[str] = Field(description="Não são lidas; `coluna` diz o que são.", examples=[["Sexo"]])
    propostas: list[ProposalView]
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
    return PreviewView(
        linhas=report.rows,
        novas=report.new,
        alteradas=report.changed,
        atualizadas=report.refreshed,
        iguais=report.equal,
        custo=preview.foreseen.as_dict() if preview.foreseen else None,
        planilhas=list(report.sheets),
        planilhas_ocultas=list(report.hidden_sheets),
        planilhas_ignoradas=list(report.ignored_sheets),
        colunas_indicadas=report.told_columns,
        situacoes_desconhecidas=report.unknown_statuses,
        esvaziadas=dict(report.emptied),
        colunas_desconhecidas=list(report.unknown_columns),
        sem_endereco=[
            LackingView(
                marca=one.name if one.field == BRAND else None,
                unidade=one.name if one.field == UNIT else None,
                linhas=one.rows,
                em_casa=one.at_home,
                quando=preview.policies.by_scope.get(scope, WhenMissing.NEVER),
            )
            for scope, one in report.lacking.items()
        ],
        propostas=[
            ProposalView(coluna=one.title, campo=one.field, evidencia=one.evidence, exemplos=list(one.examples))
            for one in report.proposals
        ],
        colunas=[
            ColumnView(titulo=one.title, campo=one.field, evidencia=one.evidence, exemplos=list(one.examples))
            for one in report.columns
        ],
        faltam_colunas=_lacking_columns(report),
        grupos=[_group_view(group) for group in preview.groups[:_MOST_GROUPS]],
        em_palavras=outcome_of(report),
        total_problemas=preview.problems,
        problemas=[row_problem(one.sheet, one.row, one) for one in report.errors],
    )


def row_problem(sheet: str, row: int | None, one: Problem | CellProblem) -> RowProblem:
    """A problem as shown, whether it is told now or was kept with its row."""
    return RowProblem(
        planilha=sheet, linha=row, coluna=one.column, esperado=one.expected, encontrado=one.found, corrigir=one.fix
    )


def _group_view(group: ProblemGroup) -> ProblemGroupView:
    one = group.problem
    return ProblemGroupView(
        planilha=one.sheet,
        coluna=one.column,
        problema=group.said,
        encontrado=one.found,
        corrigir=one.fix,
        vezes=max(1, len(group.rows)),
        linhas=list(group.rows[:_MOST_ROWS_SHOWN]),
    )


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
