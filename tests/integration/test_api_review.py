"""The review desk over HTTP: groups with candidates, decisions, conflicts, undo, and what a reader may see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import orjson
import pytest

from normalizer.domain.address.explain import Taught
from normalizer.domain.appointment import Kind, Origin, Review
from normalizer.domain.decision import Reason
from normalizer.runtime import Backend
from normalizer.store import ImportRow, Result
from normalizer.worker.pipeline import Finished, Pipeline
from tests.integration.test_api import AS_OPERATOR, AS_READER, OPERATOR, PROBLEM, backend, client, get, until

__all__ = ["backend", "client"]

OPEN = "Tv. Padre Eutíquio 1379, B. Campos, Belém PA"
DESK = "/api/revisao"


@pytest.fixture
def seed(backend: Backend) -> Callable[..., Any]:
    """Rows as key=address, brought to their end by a worker without a model."""

    async def rows(pipeline: Pipeline | None = None, **texts: str) -> None:
        import_id = await backend.store.imports.begin(file="agenda.csv")
        about = {"nome_paciente": "Maria Modelo", "nome_unidade": "Centro"}
        await backend.store.upsert_rows(
            [ImportRow(key, {"endereco_completo": text, **about}) for key, text in texts.items()], import_id
        )
        pipeline = pipeline or Pipeline(cache=backend.cache, coalescer=None, unasked=None)
        async for chunk in backend.store.pending():
            loaded = list((await backend.store.load([each.id for each in chunk])).values())
            async for progress in pipeline.run(loaded, deadline=1e9):
                ended = [each for each in progress if isinstance(each, Finished)]
                await backend.store.save([Result(each.appointment, each.outcomes, fence=1, tries=1) for each in ended])

    return rows


async def post(client: httpx.AsyncClient, path: str, headers: dict[str, str] = AS_OPERATOR, **body: Any) -> Any:
    return await client.post(path, json=body, headers=headers)


async def status_of(client: httpx.AsyncClient, key: str) -> str:
    (found,) = (await get(client, "/api/appointments", id_agendamento=key))["itens"]
    return str(found["status"])


async def test_groups_come_with_candidates_and_a_cursor(client: httpx.AsyncClient, seed: Callable[..., Any]) -> None:
    await seed(
        a=OPEN, b=OPEN, c="vai confirmar por whatsapp", d="Rua Um, 1, Centro, Cascavel", e="Rua Dois, 2, Cascavel"
    )

    first = await get(client, DESK, tamanho=1)
    rest = await get(client, DESK, cursor=first["cursor"])

    assert first["abertos"] == 5
    seen = first["grupos"] + rest["grupos"]
    assert [one["total"] for one in seen] == [2, 1, 1, 1]
    assert [(one["titulo"], one["total"], one["estados"]) for one in first["faltas"] + rest["faltas"]] == [
        ("Cascavel sem UF", 2, ["CE", "PR"])
    ]
    (group,) = [one for one in seen if one["total"] == 2]
    assert group["candidatos"][0]["endereco"]["bairro"] == "B. Campos"
    assert group["candidatos"][0]["fonte"] == "«B. Campos» é o bairro"
    assert {piece["campo"] for piece in group["partes"]} >= {"rua", "numero", "cidade", "estado", "duvida"}
    assert OPEN.split()[1].lower() not in group["chave"]
    again = await get(client, f"{DESK}/{group['chave']}")
    assert again == group


@pytest.mark.parametrize("size", [1, 2])
async def test_pages_of_one_cause_are_full_and_end(
    client: httpx.AsyncClient, seed: Callable[..., Any], size: int
) -> None:
    larger = (OPEN, OPEN.replace("1379", "1381"), "vai confirmar por whatsapp")
    others = {f"o{at}{again}": text for at, text in enumerate(larger) for again in "123"}
    towns = {"q": "Rua Dois, 2, Cascavel", "r": "Rua Três, 3, Cascavel"}
    streets = [f"Rua {name}, 1, Centro, Inexistente do Sul" for name in ("Um", "Dois", "Três")]
    await seed(**others, **towns, **{f"s{at}": text for at, text in enumerate(streets)})
    everything = (await get(client, DESK, tamanho=100))["grupos"]
    cause = next(one["motivo"] for one in everything if one["texto"] == streets[0])
    wanted = [one["chave"] for one in everything if one["motivo"] == cause]
    assert size < len(everything) - len(wanted)

    pages, cursor = [], None
    while cursor is not None or not pages:
        page = await get(client, DESK, causa=cause, tamanho=size, **({"cursor": cursor} if cursor else {}))
        pages.append([one["chave"] for one in page["grupos"]] + [one["chave"] for one in page["faltas"]])
        cursor = page["cursor"]

    assert {len(page) for page in pages[:-1]} <= {size}
    assert pages[-1]
    assert [key for page in pages for key in page if not key.startswith("f")] == wanted


async def test_one_decision_settles_all_equal_rows_and_is_undone(
    client: httpx.AsyncClient, seed: Callable[..., Any]
) -> None:
    await seed(a=OPEN, b=OPEN)
    (group,) = (await get(client, DESK))["grupos"]

    done = await post(client, f"{DESK}/{group['chave']}", candidato=1, versao=group["versao"])

    assert done.status_code == 200, done.text
    assert (done.json()["agendamentos"], done.json()["estado"]) == (2, "aplicada")
    assert [await status_of(client, key) for key in "ab"] == ["concluido", "concluido"]
    (noted,) = await get(client, f"{DESK}/decisoes")
    assert noted["id"] == done.json()["id"]
    assert "eutíquio" not in str(noted).lower()
    undone = await post(client, f"{DESK}/decisoes/{noted['id']}/desfazer")
    assert undone.json() == {"reabertos": 2, "mantidos": 0}
    assert [await status_of(client, key) for key in "ab"] == ["revisar", "revisar"]
    assert (await post(client, f"{DESK}/decisoes/{noted['id']}/desfazer")).status_code == 404


async def test_what_is_not_needed_and_what_is_put_off_are_stored_and_shown(
    client: httpx.AsyncClient, seed: Callable[..., Any]
) -> None:
    await seed(a=OPEN, b=OPEN, c="a combinar com a filha")
    first, second = (await get(client, DESK))["grupos"]
    assert (first["total"], second["total"]) == (2, 1)

    later = await post(client, f"{DESK}/{first['chave']}", acao="adiar")
    assert (later.status_code, later.json()["agendamentos"]) == (200, 2)
    assert [await status_of(client, key) for key in "ab"] == ["revisar", "revisar"]
    shown = (await get(client, DESK))["grupos"]
    assert [one["chave"] for one in shown] == [second["chave"], first["chave"]], "behind the others"
    assert (shown[0]["adiada_em"], bool(shown[1]["adiada_em"])) == (None, True)

    assert (await post(client, f"{DESK}/{second['chave']}", acao="dispensar")).status_code == 200
    assert await status_of(client, "c") == "concluido"
    listed = await get(client, f"{DESK}/decisoes")
    assert [(one["acao"], one["agendamentos"]) for one in listed] == [("dispensar", 1), ("adiar", 2)]
    await client.post("/entrar", data={"chave": OPERATOR})
    page = (await client.get("/revisao")).text
    assert "não é preciso: texto não é um endereço" in page
    assert "adiado: bairro ambíguo" in page

    # Whoever saw the question before it was put off decides all the same.
    assert (await post(client, f"{DESK}/{first['chave']}", candidato=1, versao=first["versao"])).status_code == 200
    exported = (await client.get(f"{DESK}/decisoes.jsonl", headers=AS_OPERATOR)).text
    assert exported.count("\n") == 2, "to put off decides nothing"


async def test_to_put_off_can_be_undone(client: httpx.AsyncClient, seed: Callable[..., Any]) -> None:
    await seed(a=OPEN, b=OPEN, c="a combinar com a filha")
    first, second = (await get(client, DESK))["grupos"]
    later = (await post(client, f"{DESK}/{first['chave']}", acao="adiar")).json()

    undone = await post(client, f"{DESK}/decisoes/{later['id']}/desfazer")

    assert undone.json() == {"reabertos": 2, "mantidos": 0}
    assert [one["chave"] for one in (await get(client, DESK))["grupos"]] == [first["chave"], second["chave"]]


async def test_who_decides_second_is_told_what_changed(client: httpx.AsyncClient, seed: Callable[..., Any]) -> None:
    await seed(a=OPEN, b=OPEN)
    (group,) = (await get(client, DESK))["grupos"]
    path, seen = f"{DESK}/{group['chave']}", group["versao"]
    await post(client, path, candidato=1, versao=seen, escopo="este", agendamento=group["agendamento"])

    late = await post(client, path, candidato=2, versao=seen)

    assert (late.status_code, late.headers["content-type"]) == (409, PROBLEM)
    assert "Outra pessoa decidiu" in late.json()["detail"]
    assert late.json()["errors"][0]["versao"] == "1"
    assert "Eut" not in late.text
    assert (await post(client, path, candidato=2, versao=1)).status_code == 200


async def test_a_lack_takes_a_state(client: httpx.AsyncClient, seed: Callable[..., Any]) -> None:
    await seed(a="Rua Um, 1, Centro, Cascavel", b="Rua Dois, 2, Centro, Cascavel")
    (lack,) = (await get(client, DESK))["faltas"]

    assert (await post(client, f"{DESK}/{lack['chave']}", candidato=1)).status_code == 422
    done = await post(client, f"{DESK}/{lack['chave']}", estado="PR", versao=lack["versao"])

    assert done.json()["agendamentos"] == 2
    assert [await status_of(client, key) for key in "ab"] == ["concluido", "concluido"]


async def test_what_is_wrong_is_said_and_nothing_written(client: httpx.AsyncClient, seed: Callable[..., Any]) -> None:
    await seed(a=OPEN)
    (group,) = (await get(client, DESK))["grupos"]
    path = f"{DESK}/{group['chave']}"

    wrong = await post(client, path, endereco={"rua": "Rua A", "cidade": "Belém", "estado": "SP"})
    assert (wrong.status_code, wrong.json()["errors"][0]["campo"]) == (422, "cidade")
    assert (await post(client, path)).status_code == 422
    assert (await post(client, path, candidato=4)).status_code == 422
    assert (await post(client, path, candidato=1, escopo="este")).status_code == 422
    assert (await post(client, f"{DESK}/e0123456789abcdef", acao="dispensar")).status_code == 404
    assert (await client.get(DESK, params={"cursor": "x"}, headers=AS_OPERATOR)).status_code == 422
    assert await get(client, f"{DESK}/decisoes") == []
    assert await status_of(client, "a") == "revisar"


async def test_a_reader_sees_masks_and_decides_nothing(client: httpx.AsyncClient, seed: Callable[..., Any]) -> None:
    await seed(a=f"{OPEN} falar com Joana Silva 91 98888-7777")

    found = await get(client, DESK, headers=AS_READER)

    assert "98888" not in str(found)
    assert "Joana" not in str(found)
    (group,) = found["grupos"]
    assert (group["candidatos"], group["entendido"], group["partes"]) == ([], {}, [])
    refused = await post(client, f"{DESK}/{group['chave']}", AS_READER, acao="dispensar")
    assert refused.status_code == 403
    assert (await client.get(f"{DESK}/decisoes.jsonl", headers=AS_READER)).status_code == 403
    page = await client.get("/pagina/revisao", headers=AS_READER)
    assert page.status_code == 200
    assert "Joana" not in page.text
    assert "98888" not in page.text


async def test_what_was_decided_is_exported_and_erased(client: httpx.AsyncClient, seed: Callable[..., Any]) -> None:
    await seed(a=OPEN)
    (group,) = (await get(client, DESK))["grupos"]
    await post(client, f"{DESK}/{group['chave']}", acao="dispensar")

    (line,) = (await client.get(f"{DESK}/decisoes.jsonl", headers=AS_OPERATOR)).content.splitlines()
    assert (orjson.loads(line)["texto"], orjson.loads(line)["decisao"]) == (OPEN.lower(), None)
    erased = await client.delete(f"{DESK}/decisoes", params={"agendamento": group["agendamento"]}, headers=AS_OPERATOR)
    assert erased.json() == {"apagadas": 1}
    assert (await client.get(f"{DESK}/decisoes.jsonl", headers=AS_OPERATOR)).content == b""


async def test_of_a_text_that_is_not_there_each_is_for_itself(
    client: httpx.AsyncClient, backend: Backend, seed: Callable[..., Any]
) -> None:
    import_id = await backend.store.imports.begin(file="agenda.csv")
    await backend.store.upsert_rows([ImportRow(key, {"nome_paciente": "Um"}) for key in "ab"], import_id)
    missing = {Kind.ADDRESS: Review(Reason.ADDRESS_MISSING, Origin.RULES)}
    async for chunk in backend.store.pending():
        loaded = (await backend.store.load([each.id for each in chunk])).values()
        await backend.store.save([Result(each, missing, fence=1, tries=1) for each in loaded])
    (group,) = (await get(client, DESK))["grupos"]
    path = f"{DESK}/{group['chave']}"
    address = {"rua": "Rua A", "cidade": "Belém", "estado": "PA"}

    refused = await post(client, path, endereco=address)
    alone = await post(client, path, endereco=address, escopo="este", agendamento=group["agendamento"])
    none = await post(client, path, acao="dispensar")

    assert (refused.status_code, refused.json()["errors"][0]["campo"]) == (422, "escopo")
    assert alone.json()["agendamentos"] == 1
    assert none.json()["agendamentos"] == 1
    assert await backend.cache.get_many(Kind.ADDRESS, [""]) == {}


async def test_three_decisions_alike_propose_a_word_that_settles_what_is_open_and_to_come(
    client: httpx.AsyncClient, backend: Backend, seed: Callable[..., Any]
) -> None:
    answer = {"rua": "Travessa Padre Eutíquio", "bairro": "Batista Campos", "cidade": "Belém", "estado": "PA"}
    await seed(
        **{f"k{at}": OPEN.replace("1379", str(at)) for at in range(1, 7)}, other=OPEN.replace("Belém", "Ananindeua")
    )
    groups = (await get(client, DESK))["grupos"]
    in_belem = [one for one in groups if "Belém" in one["texto"]]
    for number, group in enumerate(in_belem[:3], 1):
        assert (await get(client, f"{DESK}/palavras"))["propostas"] == []
        await post(client, f"{DESK}/{group['chave']}", endereco=answer | {"numero": str(number)})

    (lesson,) = (await get(client, f"{DESK}/palavras"))["propostas"]
    assert (lesson["curta"], lesson["longa"], lesson["cidade"]) == ("b campos", "Batista Campos", "Belém")
    assert (lesson["decisoes"], lesson["abertos"]) == (3, 3)
    taught = await post(client, f"{DESK}/palavras/{lesson['id']}")
    assert taught.json() == {"agendamentos": 3}
    assert await status_of(client, "other") == "revisar"
    assert (await get(client, f"{DESK}/palavras"))["palavras"][0]["longa"] == "Batista Campos"
    worker = Pipeline(
        cache=backend.cache, coalescer=None, unasked=None, taught=Taught((await backend.store.words.all()).values())
    )
    await seed(pipeline=worker, later=OPEN.replace("1379", "999"))
    (later,) = (await get(client, "/api/appointments", id_agendamento="later"))["itens"]
    assert later["endereco"]["normalizado"]["bairro"] == "Batista Campos"
    assert (later["endereco"]["origem"], later["endereco"]["deduzido"]) == ("regras", ["bairro"])

    undone = await client.delete(f"{DESK}/palavras/{lesson['id']}", headers=AS_OPERATOR)
    assert undone.json() == {"reabertos": 3}
    assert (await get(client, f"{DESK}/palavras"))["palavras"] == []
    assert (await client.delete(f"{DESK}/palavras/{lesson['id']}", headers=AS_OPERATOR)).status_code == 404
    assert (await get(client, f"{DESK}/palavras"))["propostas"][0]["abertos"] == 3


async def test_a_correction_of_many_teaches_as_the_decisions_it_made_until_it_is_undone(
    client: httpx.AsyncClient, seed: Callable[..., Any]
) -> None:
    await seed(**{f"k{at}": OPEN.replace("1379", str(at)) for at in (1, 2, 3)}, twice=OPEN.replace("1379", "3"))
    change = {"endereco": {"bairro": "Batista Campos"}, "esperados": 4}
    begun = (await post(client, "/api/appointments/corrigir?status=revisar", **change)).json()
    await until(client, f"/api/imports/{begun['id']}", "estado", "concluida")
    await seed(open=OPEN)

    (lesson,) = (await get(client, f"{DESK}/palavras"))["propostas"]
    assert (lesson["curta"], lesson["longa"], lesson["cidade"]) == ("b campos", "Batista Campos", "Belém")
    assert (lesson["decisoes"], lesson["abertos"]) == (3, 1)

    await post(client, f"/api/imports/{begun['id']}/desfazer")
    assert (await get(client, f"{DESK}/palavras"))["propostas"] == []
