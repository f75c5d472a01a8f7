"""One correction of all appointments of a filter: counted first, written as counted, undone but for what came since."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from normalizer.domain.appointment import Kind
from normalizer.runtime import Backend
from tests.integration.test_api import AS_OPERATOR, AS_READER, backend, client, finish, get, imported, one, until

__all__ = ["backend", "client", "imported"]  # the fixtures

BULK = "/api/appointments/corrigir"
HEADER = "Id do agendamento;Unidade;Nome do Paciente;Data Agendamento;Endereço Coleta;Documento(s) do Paciente"
SHEET = f"""{HEADER}
a1;Centro;Ana Exemplo;10/10/2026;Av. Brasil, 100, Centro, Cascavel, PR;CPF: 111.444.777-36
a2;Centro;Bia Exemplo;10/10/2026;Av. Brasil, 100, Centro, Cascavel, PR;CPF: 111.444.777-36
a3;Norte;Caio Exemplo;11/10/2026;Av. Brasil, 100, Centro, Cascavel, PR;CPF: 111.444.777-36
""".encode()


async def ask(client: httpx.AsyncClient, body: dict[str, Any], *, status: int = 200, **chosen: Any) -> dict[str, Any]:
    answer = await client.post(BULK, params=chosen, json=body, headers=AS_OPERATOR)
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def quarters(client: httpx.AsyncClient) -> dict[str, str]:
    rows = (await get(client, "/api/appointments"))["itens"]
    return {row["id_agendamento"]: row["endereco"]["normalizado"]["bairro"] for row in rows}


async def test_it_counts_then_writes_and_comes_back(
    client: httpx.AsyncClient, backend: Backend, imported: Callable[..., Any]
) -> None:
    await imported(SHEET)
    await finish(backend)
    change = {"endereco": {"bairro": "Centro Velho"}}

    counted = await ask(client, change, unidade="Centro")
    assert counted == {"ensaio": True, "agendamentos": 2, "iguais": 0, "pulados": {}, "id": None}
    assert set((await quarters(client)).values()) == {"Centro"}

    begun = await ask(client, {**change, "esperados": 2}, unidade="Centro", status=202)
    ended = await until(client, f"/api/imports/{begun['id']}", "estado", "concluida")
    assert (ended["arquivo"], ended["linhas"], ended["alteradas"]) == ("correção em massa", 2, 2)
    assert await quarters(client) == {"a1": "Centro Velho", "a2": "Centro Velho", "a3": "Centro"}
    assert (await one(client, "a1"))["endereco"]["origem"] == "manual"
    assert (await ask(client, change, unidade="Centro"))["iguais"] == 2

    later = {"endereco": {"rua": "Rua Nova", "bairro": "Outro", "cidade": "Cascavel", "estado": "PR"}}
    row = await one(client, "a2")
    assert (await client.patch(f"/api/appointments/{row['id']}", json=later, headers=AS_OPERATOR)).status_code == 200
    undone = await client.post(f"/api/imports/{begun['id']}/desfazer", headers=AS_OPERATOR)
    assert undone.json() == {"estado": "desfeita", "removidos": 0, "restaurados": 1, "mantidos": 1}
    assert await quarters(client) == {"a1": "Centro", "a2": "Outro", "a3": "Centro"}


async def test_equal_texts_to_come_have_the_same_until_it_is_undone(
    client: httpx.AsyncClient, backend: Backend, imported: Callable[..., Any]
) -> None:
    alike, torn = "Av. Brasil, 100, Centro, Cascavel, PR", "Av. Paraná, 5, Centro, Cascavel, PR"
    row = "{key};Centro;Ana Exemplo;10/10/2026;{text};CPF: 111.444.777-36\n"
    rows = [("a1", alike), ("a2", alike), ("a3", torn), ("a4", torn)]
    await imported(f"{HEADER}\n{''.join(row.format(key=key, text=text) for key, text in rows)}".encode())
    await finish(backend)
    other = {"endereco": {"rua": "Rua Nova", "bairro": "Outro", "cidade": "Cascavel", "estado": "PR"}}
    await client.patch(f"/api/appointments/{(await one(client, 'a4'))['id']}", json=other, headers=AS_OPERATOR)
    await backend.cache.forget_many(Kind.ADDRESS, [torn], manual=True)

    change = {"endereco": {"bairro": "Centro Velho"}}
    begun = await ask(client, {**change, "esperados": 4}, unidade="Centro", status=202)
    await until(client, f"/api/imports/{begun['id']}", "estado", "concluida")

    known = await backend.cache.get_many(Kind.ADDRESS, [alike, torn])
    assert [(text, one.manual, (one.address or {})["bairro"]) for text, one in known.items()] == [
        (alike, True, "Centro Velho")
    ]
    await client.post(f"/api/imports/{begun['id']}/desfazer", headers=AS_OPERATOR)
    assert await backend.cache.get_many(Kind.ADDRESS, [alike, torn]) == {}


async def test_what_nobody_needs_is_no_question_any_more(
    client: httpx.AsyncClient, backend: Backend, imported: Callable[..., Any]
) -> None:
    await imported(SHEET)
    await finish(backend)
    done = {"dispensar": "documento"}
    assert (await ask(client, done, causa="CPF com dígito inválido"))["agendamentos"] == 3
    begun = await ask(client, {**done, "esperados": 3}, status=202, causa="CPF com dígito inválido")
    await until(client, f"/api/imports/{begun['id']}", "estado", "concluida")
    assert {row["status"] for row in (await get(client, "/api/appointments"))["itens"]} == {"concluido"}

    await client.post(f"/api/imports/{begun['id']}/desfazer", headers=AS_OPERATOR)
    rows = (await get(client, "/api/appointments"))["itens"]
    assert {(row["status"], row["documento"]["motivo"]) for row in rows} == {("revisar", "CPF com dígito inválido")}


async def test_what_would_be_no_address_is_left_and_told(
    client: httpx.AsyncClient, backend: Backend, imported: Callable[..., Any]
) -> None:
    await imported(SHEET)
    counted = await ask(client, {"endereco": {"bairro": "Centro"}}, unidade="Centro")
    assert counted["agendamentos"] == 0
    assert counted["pulados"] == {"rua: esperado a rua": 2}


@pytest.mark.parametrize(
    ("body", "chosen", "status"),
    [
        ({"endereco": {"bairro": "X"}}, {}, 422),
        ({"endereco": {"bairro": "X"}}, {"ordenar": "data"}, 422),
        ({}, {"unidade": "Centro"}, 422),
        ({"endereco": {}}, {"unidade": "Centro"}, 422),
        ({"endereco": {"bairro": "X"}, "dispensar": "endereco"}, {"unidade": "Centro"}, 422),
        ({"endereco": {"bairro": "X"}, "esperados": 5}, {"unidade": "Centro"}, 409),
    ],
)
async def test_it_is_refused_in_words(
    client: httpx.AsyncClient, body: dict[str, Any], chosen: dict[str, Any], status: int
) -> None:
    assert (await ask(client, body, status=status, **chosen))["detail"]
    assert (await client.post(BULK, params={"unidade": "X"}, json=body, headers=AS_READER)).status_code == 403
