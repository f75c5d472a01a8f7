"""The sheet to correct, over HTTP: only what is still wrong, each appointment once; untouched it changes nothing."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import httpx
from python_calamine import CalamineWorkbook

from normalizer.runtime import Backend
from tests.integration.test_api import AS_OPERATOR, backend, client, get, imported
from tests.integration.test_api_policies import work

__all__ = ["backend", "client", "imported"]  # the fixtures

HEADER = "Id do agendamento;Nome do Paciente;Data Agendamento;Hora Agendamento;Endereço Coleta;Documento(s) do Paciente"
SHEET = f"""{HEADER}
s1;Ana Exemplo;10/10/2026;09:20;Av. Brasil, 100, Centro, Cascavel, PR;CPF: 111.444.777-35, RG: 12.345.678-9
s1;Ana Exemplo;10/10/2026;09:30;Av. Brasil, 100, Centro, Cascavel, PR;CPF: 111.444.777-35, RG: 12.345.678-9
s2;Bia Exemplo;31/02/2026;08:00;a combinar;CPF: 111.444.777-35
s3;Caio Exemplo;10/10/2026;08:10;;CPF: 111.444.777-36
s4;Davi Exemplo;10/10/2026;08:20;Rua Sete de Setembro, 20, Centro, Blumenau, SC;CPF: 52998224725
;Eva Exemplo;amanhã;08:30;Rua Sete de Setembro, 21, Centro, Blumenau, SC;CPF: 52998224725
s5;Fabio Exemplo;10/10/2026;08:40;;CPF: 52998224725
s5;Gil Exemplo;10/10/2026;08:50;;CPF: 52998224725
""".encode()


async def to_correct(client: httpx.AsyncClient, import_id: str) -> bytes:
    answer = await client.get(f"/api/imports/{import_id}/erros.xlsx", headers=AS_OPERATOR)
    assert answer.status_code == 200, answer.text
    return answer.content


def sheets_of(content: bytes) -> dict[str, list[list[Any]]]:
    book = CalamineWorkbook.from_filelike(io.BytesIO(content))
    return {name: book.get_sheet_by_name(name).to_python() for name in book.sheet_names}


async def times(client: httpx.AsyncClient) -> dict[str, str]:
    found = (await get(client, "/api/appointments"))["itens"]
    return {one["id_agendamento"]: one["hora_agendamento"] for one in found}


async def test_untouched_it_changes_nothing(
    backend: Backend, client: httpx.AsyncClient, imported: Callable[..., Any]
) -> None:
    import_id = await imported(SHEET, name="outubro.csv")
    await work(backend)
    before = await times(client)
    content = await to_correct(client, import_id)

    shown = (await client.post("/api/imports/previa", content=content, headers=AS_OPERATOR)).json()
    assert {name: shown[name] for name in ("novas", "alteradas", "atualizadas")} == dict.fromkeys(
        ("novas", "alteradas", "atualizadas"), 0
    )
    assert shown["colunas_desconhecidas"] == []
    await imported(content, name="para-corrigir.xlsx")
    assert await times(client) == before
    assert before["s1"] == "09:30"


async def test_each_appointment_stands_in_it_once_with_all_that_is_wrong_and_tabs_have_names(
    backend: Backend, client: httpx.AsyncClient, imported: Callable[..., Any]
) -> None:
    import_id = await imported(SHEET, name="outubro.csv")
    await work(backend)
    sheets = sheets_of(await to_correct(client, import_id))

    assert list(sheets) == ["outubro", "Para revisar", "Avisos"]
    rows = {row[0]: row for row in sheets["outubro"][1:]}
    assert set(rows) == {"s2", ""}
    assert "31/02/2026" in rows["s2"][-2]
    assert "texto não é um endereço" in rows["s2"][-2]
    assert [row[0] for row in sheets["Para revisar"][1:]] == ["s3"]
    said = "\n".join(str(row[0]) for row in sheets["Avisos"])
    assert "linha 2: " in said  # the one that a later row replaced is told, and not given back
    assert "o id de outro paciente" in said


async def test_what_was_mended_since_is_not_in_it(
    backend: Backend, client: httpx.AsyncClient, imported: Callable[..., Any]
) -> None:
    import_id = await imported(SHEET)
    mended = f"{HEADER}\ns2;Bia Exemplo;28/02/2026;08:00;Av. Brasil, 1, Centro, Cascavel, PR;CPF: 111.444.777-35\n"
    await imported(mended.encode(), name="para-corrigir.csv")
    await work(backend)

    sheets = sheets_of(await to_correct(client, import_id))

    assert "s2" not in {row[0] for rows in sheets.values() for row in rows}
