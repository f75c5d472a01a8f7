"""A postal base from the worker to the operator: stored with the result, found by conflict, counted; or not at all."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from python_calamine import CalamineWorkbook

from normalizer.api.views import appointment_view, import_view
from normalizer.domain.address import Address
from normalizer.domain.appointment import Kind
from normalizer.imports.error_sheet import gather
from normalizer.postal import IndexedBase
from normalizer.store import AppointmentStore, Attention, Filter, ImportRow, Result
from normalizer.worker.pipeline import Finished, Pipeline
from tests.postal_base import made_up

TEXTS = {
    "certo": "Rua das Pitangas, 12, Jardim Aurora, Campinas - SP, 13010-010",
    "outra": "Rua das Pitangas, 12, Jardim Aurora, Campinas - SP, 11010-010",
    "calado": "Rua Modelo, 12, Centro, Ubá - MG",
}
OBJECTION = "cidade não confere com 11010-010: Rua das Pitangas do Mar, Jardim Aurora do Mar, Santos - SP"


@pytest.fixture
def base(tmp_path: Path) -> IndexedBase:
    return made_up(tmp_path)


async def imported(store: AppointmentStore, base: IndexedBase | None) -> str:
    """Import the texts and let a worker without a model end them."""
    import_id = await store.imports.begin(file="agenda.csv")
    rows = [ImportRow(key, {"endereco_completo": text, "cpf": "52998224725"}) for key, text in TEXTS.items()]
    await store.upsert_rows(rows, import_id)
    pipeline = Pipeline(cache=None, coalescer=None, unasked=None, base=base)
    async for chunk in store.pending():
        loaded = list((await store.load([one.id for one in chunk])).values())
        async for progress in pipeline.run(loaded, deadline=1e9):
            ended = [each for each in progress if isinstance(each, Finished)]
            await store.save([Result(each.appointment, each.outcomes, fence=1, tries=1) for each in ended])
    await store.imports.end(import_id, state="concluida")
    return import_id


def noted(mongo: Any) -> dict[str, Any]:
    return {one["id_agendamento"]: one["normalizacao"]["endereco"] for one in mongo["appointments"].find()}


async def test_verdicts_are_stored_with_the_result_and_never_in_it(
    store: AppointmentStore, base: IndexedBase, mongo: Any
) -> None:
    await imported(store, base)
    found = noted(mongo)
    assert found["certo"]["campos"]["rua"] == {
        "veredito": "confirmado",
        "base": "13010-010: Rua das Pitangas, Jardim Aurora, Campinas - SP",
    }
    assert {key: (one["parecer"], one["acao"]) for key, one in found.items()} == {
        "certo": ("confirmado", "nada"),
        "outra": ("conflito", "corrigir"),
        "calado": ("lido", "nada"),
    }
    assert (found["outra"]["conflito"], found["outra"]["sugestoes"]) == (["cidade", "cep"], {"cidade": "Santos"})
    assert "conflito" not in found["certo"]
    value = mongo["appointments"].find_one({"id_agendamento": "outra"})["endereco_normalizado"]
    assert (value["cidade"], value["cep"]) == ("Campinas", "11010-010")


async def test_conflicts_are_listed_counted_and_in_the_sheet_to_correct(
    store: AppointmentStore, base: IndexedBase
) -> None:
    import_id = await imported(store, base)
    page = await store.browse(Filter(import_id=import_id, attention=Attention.CONFLICT))
    (one,) = page.appointments
    assert (await store.totals.attention())[Attention.CONFLICT] == 1
    view = appointment_view(one, clear=False)
    assert view.conferir == [OBJECTION]
    assert view.endereco.campos is not None
    assert view.endereco.campos["cep"].veredito == "conflito"
    assert (view.endereco.acao, view.endereco.sugestoes) == ("corrigir", {"cidade": "Santos"})

    record = await store.imports.get(import_id)
    assert record is not None
    shown = import_view(record, await store.imports.progress(import_id))
    assert (shown.confirmados, shown.conflitos, shown.sem_resposta) == (1, 1, 1)
    assert await store.totals.evidence() == {"confirmado": 1, "conflito": 1, "lido": 1}
    sheet = CalamineWorkbook.from_filelike(io.BytesIO(await gather(record, store=store))).get_sheet_by_index(0)
    assert [row[-2] for row in sheet.to_python()] == ["Erro", OBJECTION]


async def test_a_persons_answer_ends_a_conflict(store: AppointmentStore, base: IndexedBase) -> None:
    import_id = await imported(store, base)
    conflict = Filter(import_id=import_id, attention=Attention.CONFLICT)
    (one,) = (await store.browse(conflict)).appointments
    right = Address.from_dict({**(one.texts[Kind.ADDRESS].value or {}), "cep": "13010-010"})
    await store.correct(one, {Kind.ADDRESS: right})
    assert not (await store.browse(conflict)).appointments


async def test_without_a_base_what_is_stored_and_counted_is_as_it_ever_was(store: AppointmentStore, mongo: Any) -> None:
    import_id = await imported(store, None)
    assert {name for one in noted(mongo).values() for name in one} == {"versao", "origem", "gravado"}
    assert (await store.imports.progress(import_id)).by_evidence == {}
    assert await store.totals.evidence() == {}
    assert (await store.totals.attention())[Attention.CONFLICT] == 0
