"""Addresses that are not there, and what is settled and yet to be looked at: over HTTP, on real services."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx

from normalizer.runtime import Backend
from normalizer.store import Result
from normalizer.worker.pipeline import Finished, Pipeline
from tests.integration.test_api import AS_OPERATOR, AS_READER, backend, client, get, imported, until

__all__ = ["backend", "client", "imported"]  # the fixtures

HEADER = (
    "Id do agendamento;Marca;Nome do Paciente;Data Agendamento;Carro;Endereço Coleta;CPF do Paciente;RG do Paciente"
)
SHEET = f"""{HEADER}
p1;Clínica Exemplo;Ana Exemplo;10/10/2026;;;111.444.777-35;
p2;Clínica Exemplo;Bia Exemplo;10/10/2026;Carro 1;;111.444.777-35;
p3;Clínica Exemplo;Caio Exemplo;31/02/2026;;Av. Brasil, 100, Centro, Cascavel, PR;111.111.111-11;12.345.678-9
p4;Outra Marca;Davi Exemplo;10/10/2026;Carro 2;;111.444.777-35;
""".encode()


async def work(backend: Backend) -> None:
    """What a worker without a key does with everything that waits."""
    pipeline = Pipeline(cache=None, coalescer=None)
    deadline = asyncio.get_running_loop().time() + 60
    async for chunk in backend.store.pending():
        loaded = list((await backend.store.load([one.id for one in chunk])).values())
        async for done in pipeline.run(loaded, deadline=deadline):
            finished = [one for one in done if isinstance(one, Finished)]
            await backend.store.save([Result(one.appointment, one.outcomes, fence=1, tries=1) for one in finished])


async def stands(client: httpx.AsyncClient) -> dict[str, str]:
    return {one["id_agendamento"]: one["status"] for one in (await get(client, "/api/appointments"))["itens"]}


async def test_the_preview_counts_what_is_missing_and_a_policy_decides_what_that_means(
    backend: Backend, client: httpx.AsyncClient, imported: Callable[..., Any]
) -> None:
    shown = (await client.post("/api/imports/previa", content=SHEET, headers=AS_OPERATOR)).json()["sem_endereco"]
    assert [(one["marca"], one["linhas"], one["em_casa"], one["quando"]) for one in shown] == [
        ("Clínica Exemplo", 2, 1, "dispensado"),
        ("Outra Marca", 1, 1, "dispensado"),
    ]
    path, choice = "/api/politicas/endereco", {"marca": "CLINICA  EXEMPLO", "quando": "coleta"}
    assert (await client.put(path, json=choice, headers=AS_READER)).status_code == 403
    assert (await client.put(path, json={"quando": "sempre"}, headers=AS_OPERATOR)).status_code == 422
    decided = await client.put(path, json=choice, headers=AS_OPERATOR)
    assert decided.json() == {"escopo": "marca:clinica exemplo", "quando": "coleta"}
    assert await get(client, path) == [decided.json()]
    shown = await client.get("/pagina/politicas", headers=AS_OPERATOR)
    assert "clinica exemplo" in shown.text
    assert '<option value="coleta" selected>' in shown.text

    await imported(SHEET)
    await work(backend)

    assert await stands(client) == {"p1": "concluido", "p2": "revisar", "p3": "concluido", "p4": "concluido"}


async def test_what_is_stored_follows_a_policy_and_comes_back(
    backend: Backend, client: httpx.AsyncClient, imported: Callable[..., Any]
) -> None:
    import_id = await imported(SHEET)
    await work(backend)
    assert set((await stands(client)).values()) == {"concluido"}
    assert (await get(client, f"/api/imports/{import_id}"))["progresso"]["revisar"] == 0

    choice = {"marca": "Clínica Exemplo", "quando": "sempre"}
    await client.put("/api/politicas/endereco", json=choice, headers=AS_OPERATOR)
    applied = await client.post("/api/politicas/endereco/aplicar", headers=AS_OPERATOR)
    migration = f"/api/imports/{applied.json()['id']}"
    await until(client, migration, "estado", "concluida")
    assert await stands(client) == {"p1": "revisar", "p2": "revisar", "p3": "concluido", "p4": "concluido"}
    assert (await get(client, f"/api/imports/{import_id}"))["progresso"]["revisar"] == 2

    undone = await client.post(f"{migration}/desfazer", headers=AS_OPERATOR)
    assert undone.json()["restaurados"] == 2
    path = "/api/politicas/endereco"
    removed = [await client.delete(path, params={"marca": "clínica exemplo"}, headers=AS_OPERATOR) for _ in range(2)]
    assert [one.status_code for one in removed] == [204, 404]
    assert await get(client, path) == []
    assert (await client.delete(path, headers=AS_OPERATOR)).status_code == 422
    assert (await get(client, f"/api/imports/{import_id}"))["progresso"]["revisar"] == 0
    assert set((await stands(client)).values()) == {"concluido"}


async def test_a_date_nobody_reads_and_a_refused_cpf_are_found_until_they_are_mended(
    backend: Backend, client: httpx.AsyncClient, imported: Callable[..., Any]
) -> None:
    await imported(SHEET)
    await work(backend)

    async def found(name: str) -> list[str]:
        return [one["id_agendamento"] for one in (await get(client, "/api/appointments", conferir=name))["itens"]]

    assert (await get(client, "/api/status"))["a_conferir"] == {"data": 1, "documento": 1, "conflito": 0}
    assert await found("data") == await found("documento") == ["p3"]
    (one,) = (await get(client, "/api/appointments", conferir="data"))["itens"]
    assert one["conferir"] == ["data escrita “31/02/2026”", "documento: CPF com dígito inválido"]
    assert one["status"] == "concluido"

    await imported(SHEET.replace(b"31/02/2026", b"28/02/2026"))
    assert await found("data") == []
    assert await found("documento") == ["p3"]
