"""The API as people expect it: problems one can look up, docs by role, events that resume, services that are away."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from normalizer.queue.replicas import REPLICAS
from normalizer.runtime import Backend
from normalizer.simulation import embedded
from tests.integration.test_api import (
    AS_OPERATOR,
    AS_READER,
    OPERATOR,
    PROBLEM,
    SHEET,
    backend,
    client,
    finish,
    get,
    imported,
)

__all__ = ["backend", "client", "imported"]  # the fixtures


async def test_a_problem_says_what_is_allowed_and_its_type_can_be_looked_up(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/appointments", params={"origem": "quem?", "tamanho": 9_999}, headers=AS_OPERATOR)

    assert (answer.status_code, answer.headers["content-type"]) == (422, PROBLEM)
    told = {one["campo"]: one["esperado"] for one in answer.json()["errors"]}
    assert told == {"origem": "um destes: regras, cache, llm, manual", "tamanho": "no máximo 200"}
    assert "quem" not in answer.text
    path, _, slug = answer.json()["type"].partition("#")
    listed = await client.get(path)
    assert listed.status_code == 200
    assert f'id="{slug}"' in listed.text


async def test_docs_show_what_a_key_may_ask_and_every_operation_has_a_summary(client: httpx.AsyncClient) -> None:
    operator = (await client.get("/docs", headers=AS_OPERATOR)).text
    reader = (await client.get("/docs", headers=AS_READER)).text
    assert "POST /api/imports</code> Importa uma planilha" in operator
    assert "POST /api/imports</code>" not in reader
    assert "GET /api/imports</code>" in reader
    asked = [(await client.get("/openapi.json", headers=each)).json()["paths"] for each in (AS_READER, AS_OPERATOR)]
    assert ["post" in paths["/api/imports"] for paths in asked] == [False, True]
    assert "get" in asked[0]["/api/imports"]
    summaries = [one["summary"] for path in asked[1].values() for one in path.values()]
    assert [one for one in summaries if one == one.title()] == []


async def test_every_answer_has_a_schema_with_names(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json", headers=AS_OPERATOR)).json()
    loose = []
    for path, operations in document["paths"].items():
        for method, one in operations.items():
            kinds = one["responses"].get("200", one["responses"].get("202", {})).get("content", {})
            schema = kinds.get("application/json", {}).get("schema", {"$ref": "none: it is no JSON"})
            item = schema.get("items", schema)
            if "$ref" not in item:
                loose.append((method, path, schema))
    assert loose == []


async def test_events_of_an_import_tell_written_from_normalized_and_resume(
    client: httpx.AsyncClient, backend: Backend, imported: Callable[..., Any]
) -> None:
    import_id = await imported(SHEET)
    assert (await get(client, f"/api/imports/{import_id}"))["fase"] == "gravada"
    path = f"/api/imports/{import_id}/eventos"
    async with asyncio.timeout(60), client.stream("GET", path, headers=AS_READER) as stream:
        lines = stream.aiter_lines()
        first = [line async for line in _until_blank(lines)]
        await finish(backend)
        rest = [line async for line in lines]
    assert any('"fase":"gravada"' in line.replace(" ", "") for line in first)
    assert any('"fase":"normalizada"' in line.replace(" ", "") for line in rest)
    seen = [line.removeprefix("id: ") for line in (*first, *rest) if line.startswith("id: ")]
    assert len(set(seen)) == len(seen) >= 2  # one more where the first of two was told before the second ended


async def test_a_client_that_reconnects_is_not_told_again_what_it_saw(
    client: httpx.AsyncClient, imported: Callable[..., Any]
) -> None:
    import_id = await imported(SHEET)
    for path in ("/api/eventos", f"/api/imports/{import_id}/eventos"):
        seen: list[str] = []
        while len(seen) < 2:  # an import that nobody normalizes tells of itself once
            headers = AS_READER | ({"Last-Event-ID": seen[-1]} if seen else {})
            async with asyncio.timeout(60), client.stream("GET", path, headers=headers) as stream:
                first = [line async for line in _until_blank(stream.aiter_lines())]
            seen += [line.removeprefix("id: ") for line in first if line.startswith("id: ")]
        assert seen[0] != seen[1]


async def test_events_of_no_import_are_not_found(client: httpx.AsyncClient) -> None:
    for name in ("xyz", "6740f0c2a1b2c3d4e5f60718"):
        answer = await client.get(f"/api/imports/{name}/eventos", headers=AS_READER)
        assert (answer.status_code, answer.json()["status"]) == (404, 404)


async def _until_blank(lines: Any) -> Any:
    async for line in lines:
        if not line:
            return
        yield line


async def test_every_import_of_the_month_is_listed_with_what_waits(
    client: httpx.AsyncClient, imported: Callable[..., Any]
) -> None:
    names = [f"{at}.csv" for at in range(7)]
    for at, name in enumerate(names):
        await imported(SHEET.replace(b"a1", f"b{at}".encode()).replace(b"a2", f"c{at}".encode()), name=name)
    listed = await get(client, "/api/imports")
    assert [one["arquivo"] for one in listed] == names[::-1]
    assert {one["progresso"]["pendente"] for one in listed} == {2}
    assert all(one["desfaz_ate"] for one in listed)


async def test_the_page_keeps_a_filter_links_its_figures_and_says_what_it_needs(
    client: httpx.AsyncClient, backend: Backend, imported: Callable[..., Any]
) -> None:
    await imported(SHEET)
    await finish(backend)
    await imported(SHEET.replace(b"a1;", b"z1;").replace(b"a2;", b"z2;"))
    await client.post("/entrar", data={"chave": OPERATOR})

    page = (await client.get("/", params={"status": "revisar", "causa": "CPF com dígito inválido"})).text

    assert '<option value="revisar" selected>' in page
    assert all(key in page for key in ("a1", "a2"))
    assert not any(key in page for key in ("z1", "z2"))
    figures = re.findall(r'<a class="card[^"]*" href="[^"]+"[^>]*><h2>([^<]+)', page)
    assert figures == ["Na fila", "Processando", "Concluídos hoje", "Para revisar", "Falhas"]
    for each in (page, (await client.get("/revisao")).text):
        assert "Sem JavaScript" in each.partition("<noscript>")[2].partition("</noscript>")[0]
        shown = re.sub(r"<[^>]+>", " ", each)
        assert re.findall(r"\b(?:pid|grupos?|jobs?|[A-Z]+_[A-Z_]+|normaliz\w+_\w+)\b", shown) == []


async def test_a_worker_that_died_is_told_until_it_is_dismissed(client: httpx.AsyncClient, backend: Backend) -> None:
    pool = await backend.tasks.get_pool()
    await pool.zadd(REPLICAS, {"host-1:77:abcdef": 1_000})

    (dead,) = (await get(client, "/api/status"))["workers_mortos"]
    assert (dead["id"], dead["maquina"], dead["sinal_em_ms"]) == ("host-1:77:abcdef", "host-1", 1_000)
    assert (dead["devolvidos"], dead["esperam"], dead["seguiram"]) == (0, 0, 0)
    assert (dead["worker_id"], dead["beat_at_ms"]) == ("host-1:77:abcdef", 1_000), "the earlier names, for one release"
    await client.post("/entrar", data={"chave": OPERATOR})
    page = (await client.get("/")).text
    assert "morreu" in page
    assert 'data-dismiss="host-1:77:abcdef"' in page
    path = "/api/workers/host-1:77:abcdef/dispensar"
    assert (await client.post(path, headers=AS_READER)).status_code == 403
    assert (await client.post(path, headers=AS_OPERATOR)).status_code == 204
    assert (await backend.tasks.status()).gone == []


@pytest.mark.parametrize("away", ["REDIS_URL", "MONGODB_URL"])
def test_the_page_comes_up_and_says_which_service_is_away(
    away: str, redis_url: str, mongo_url: str, database: str, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    nowhere = {"REDIS_URL": "redis://127.0.0.1:1", "MONGODB_URL": "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=500"}
    environment = {"REDIS_URL": redis_url, "MONGODB_URL": mongo_url, "DATABASE_NAME": database, "API_KEYS": OPERATOR}
    command = ["-c", "from normalizer.cli import main; main()", "serve", "--port", str(port)]
    log = tmp_path / "serve.log"
    with (
        embedded.spawn_python("api", command, environment | {away: nowhere[away]}, log=log) as child,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
    ):
        page = _page_that_says_more(client, child)
        assert page.status_code == 503
        assert ("Redis" if away == "REDIS_URL" else "MongoDB") in page.text
        assert client.get("/health/live").status_code == 200
        refused = client.get("/api/status", headers=AS_OPERATOR)
        assert (refused.status_code, refused.headers["content-type"]) == (503, PROBLEM)
        assert refused.headers["retry-after"]
        assert f"http://127.0.0.1:{port}" in child.output()  # told once it listens


def test_a_stop_leaves_no_sheet_behind(redis_url: str, mongo_url: str, database: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {"REDIS_URL": redis_url, "MONGODB_URL": mongo_url, "DATABASE_NAME": database, "API_KEYS": OPERATOR}
    command = ["-c", "from normalizer.cli import main; main()", "serve", "--port", str(port)]
    (received := tmp_path / "received").mkdir()
    titles, row = SHEET.splitlines(keepends=True)[:2]
    sheet = titles + b"".join(row.replace(b"a1;", b"k%d;" % at) for at in range(20_000))  # takes seconds
    with (
        embedded.spawn_python("api", command, environment | {"TMPDIR": str(received)}, log=tmp_path / "log") as child,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
    ):
        while _page_that_says_more(client, child).status_code != 200:
            pass  # a service was slow to answer
        assert client.post("/api/imports", content=sheet, headers=AS_OPERATOR).status_code == 202
        child.signal(signal.SIGTERM)
        assert child.wait(60) == -signal.SIGTERM, child.tail()

    assert list(received.iterdir()) == []


def _page_that_says_more(client: httpx.Client, child: embedded.Child) -> httpx.Response:
    """The page once it listens and has tried."""
    while True:
        assert child.running, child.tail()
        try:
            page = client.get("/")
        except httpx.ConnectError:
            continue
        if "Iniciando" not in page.text:
            return page


async def test_a_list_is_filtered_and_paged_by_key_and_a_name_stands_in_no_address(
    client: httpx.AsyncClient, backend: Backend, imported: Callable[..., Any]
) -> None:
    await imported(SHEET.replace("João".encode(), b"Jo\xc3\xa3o Ant\xc3\xb4nio"))
    await imported(SHEET.replace(b"a1;", b"z1;").replace(b"a2;", b"z2;").replace(b"10/10/2026", b"11/10/2026"))

    async def ids(**asked: Any) -> list[str]:
        return sorted(one["id_agendamento"] for one in (await get(client, "/api/appointments", **asked))["itens"])

    assert await ids(status=["pendente", "falhou"]) == ["a1", "a2", "z1", "z2"]
    assert await ids(status="falhou") == []
    assert await ids(de="2026-10-11") == ["z1", "z2"]
    assert await ids(de="2026-10-10", ate="2026-10-10") == ["a1", "a2"]
    assert await ids(id_contem="1") == ["a1", "z1"]

    by_date = (await get(client, "/api/appointments", ordenar="-data"))["itens"]
    assert [one["data_agendamento"][:2] for one in by_date] == ["11", "11", "10", "10"]

    first = await get(client, "/api/appointments", tamanho=3)
    rest = await get(client, "/api/appointments", tamanho=3, depois=first["depois"])
    assert rest["depois"] is None
    seen = [one["id_agendamento"] for one in (*first["itens"], *rest["itens"])]
    assert sorted(seen) == ["a1", "a2", "z1", "z2"]

    wanted = {"paciente": "joao antonio"}
    assert (await client.post("/api/appointments/busca", json=wanted, headers=AS_READER)).status_code == 403
    (found,) = (await client.post("/api/appointments/busca", json=wanted, headers=AS_OPERATOR)).json()["itens"]
    assert (found["id_agendamento"], found["paciente"]) == ("a2", "J. A. L.")
