"""The import's own logic, against a store and a queue of a few lines. The real ones are in tests/integration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Unpack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from normalizer.errors import InvalidInput, QueueUnavailable, StoreUnavailable
from normalizer.imports import plan
from normalizer.imports.importing import CHUNK, ImportReport, import_sheet
from normalizer.imports.plan import key_of
from normalizer.imports.spreadsheet import Row
from normalizer.store import ImportNotes, ImportRow, ProblemRow, UpsertReport

pytestmark = pytest.mark.usefixtures("read_here")

HEADER = "Id do agendamento;Nome do Paciente;Endereço Coleta;Documento(s) do Paciente;Status"


@dataclass
class MemoryStore:
    """Rows by key, compared as the real store compares them."""

    rows: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    noted: list[ImportNotes] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)
    fails_at_call: int | None = None

    @property
    def imports(self) -> MemoryStore:
        return self

    problems = columns = imports

    async def note(self, import_id: str, **known: Unpack[ImportNotes]) -> None:
        """How far it is."""

    async def keep(self, import_id: str, rows: Sequence[ProblemRow], *, first: int = 0) -> None:
        """Rows with problems."""

    async def remember(self, learned: Mapping[str, Mapping[str, str]]) -> None:
        """What titles mean."""

    async def begin(self, import_id: str | None = None, **known: Unpack[ImportNotes]) -> str:
        self.noted.append(known)
        return import_id or f"import-{len(self.noted)}"

    async def end(self, import_id: str, **known: Unpack[ImportNotes]) -> None:
        self.noted[int(import_id.removeprefix("import-")) - 1] |= known

    async def upsert_rows(self, rows: Sequence[ImportRow], import_id: str) -> UpsertReport:
        self.calls.append(len(rows))
        if self.fails_at_call == len(self.calls):
            raise StoreUnavailable("away")
        report = await self.preview_rows(rows)
        self.rows |= {row.key: dict(row.fields) for row in rows}
        return report

    async def preview_rows(self, rows: Sequence[ImportRow]) -> UpsertReport:
        report = UpsertReport()
        for row in rows:
            known = self.rows.get(row.key)
            if known is None:
                report.new[row.key] = "f"
            elif known == row.fields:
                report.equal += 1
            elif known.get("endereco_coleta") != row.fields.get("endereco_coleta"):
                report.changed[row.key] = "g"
            else:
                report.refreshed += 1
        return report


@dataclass
class MemoryQueue:
    ids: list[str] = field(default_factory=list)
    round_trips: list[int] = field(default_factory=list)
    away: bool = False
    tries: int = 0

    async def enqueue_many(self, ids: Sequence[str], *, fingerprints: Mapping[str, str]) -> None:
        self.tries += 1
        if self.away:
            raise QueueUnavailable("away")
        assert list(fingerprints) == list(ids)
        self.ids += ids
        self.round_trips.append(len(ids))


def sheet(*rows: str) -> bytes:
    return "\n".join([HEADER, *rows]).encode()


def many(count: int) -> bytes:
    return sheet(*(f"a-{n};Ana Exemplo;rua x, {n};RG {1234567 + n};Agendado" for n in range(count)))


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def queue() -> MemoryQueue:
    return MemoryQueue()


async def run(source: bytes, store: MemoryStore, queue: MemoryQueue, **options: Any) -> ImportReport:
    return await import_sheet(source, store=store, enqueue=queue.enqueue_many, **options)


async def test_rows_are_stored_then_enqueued_by_the_thousand(store: MemoryStore, queue: MemoryQueue) -> None:
    seen: list[tuple[int, int]] = []
    report = await run(many(2 * CHUNK + 1), store, queue, progress=lambda done, total: seen.append((done, total)))
    assert (report.rows, report.new, report.changed, report.equal) == (2001, 2001, 0, 0)
    assert store.calls == queue.round_trips == [1000, 1000, 1]
    assert queue.ids == [f"a-{n}" for n in range(2001)]
    assert seen == [(0, 2001), (1000, 2001), (2000, 2001), (2001, 2001)]
    assert store.rows["a-7"] == {
        "nome_paciente": "Ana Exemplo",
        "endereco_coleta": "rua x, 7",
        "documento_completo": "RG 1234574",
        "status": "Confirmado",
    }
    assert store.noted[0]["new"] == 2001


async def test_the_same_file_again_changes_nothing(store: MemoryStore, queue: MemoryQueue) -> None:
    await run(many(10), store, queue)
    queue.ids.clear()
    report = await run(many(10), store, queue)
    assert (report.new, report.changed, report.refreshed, report.equal) == (0, 0, 0, 10)
    assert queue.ids == []


async def test_only_changed_texts_are_enqueued_again(store: MemoryStore, queue: MemoryQueue) -> None:
    await run(sheet("a;Ana;rua x;RG 1;Agendado", "b;Olga;rua y;RG 2;Agendado"), store, queue)
    queue.ids.clear()
    report = await run(sheet("a;Ana;rua z;RG 1;Agendado", "b;Olga;rua y;RG 2;Realizado"), store, queue)
    assert (report.new, report.changed, report.refreshed, report.equal) == (0, 1, 1, 0)
    assert queue.ids == ["a"]


async def test_an_emptied_text_is_gone_and_a_missing_column_is_left_alone(
    store: MemoryStore, queue: MemoryQueue
) -> None:
    await run(sheet("a;Ana;;RG 1234567;Agendado"), store, queue)
    assert store.rows["a"]["endereco_coleta"] is None
    assert "cep" not in store.rows["a"]


async def test_a_dry_run_writes_nothing(store: MemoryStore, queue: MemoryQueue) -> None:
    await run(many(3), store, queue)
    before = dict(store.rows), list(store.noted), list(queue.ids)
    report = await run(many(5), store, queue, dry_run=True)
    assert (report.import_id, report.new, report.equal) == (None, 2, 3)
    assert (store.rows, store.noted, queue.ids) == before


async def test_a_bad_file_is_refused_before_anything_is_written(store: MemoryStore, queue: MemoryQueue) -> None:
    broken = many(1500) + b'\na-x;"aberta' * 2_000
    for source in (b"", b"nada", HEADER.encode(), broken):
        with pytest.raises(InvalidInput):
            await run(source, store, queue)
    assert (store.rows, store.noted, queue.ids) == ({}, [], [])


async def test_of_rows_with_one_key_the_last_counts_and_the_others_are_named(
    store: MemoryStore, queue: MemoryQueue
) -> None:
    report = await run(sheet("a;Ana;rua 1;;", "b;Olga;rua 2;;", "a;Ana;rua 3;;"), store, queue)
    assert report.rows == 2
    assert store.rows["a"]["endereco_coleta"] == "rua 3"
    (problem,) = report.errors
    assert (problem.row, problem.column) == (2, "Id do agendamento")
    assert "linha 4" in problem.found
    assert queue.ids == ["b", "a"]


async def test_homonyms_are_two_appointments_and_a_row_twice_is_one(store: MemoryStore, queue: MemoryQueue) -> None:
    header = "Nome;Data;Hora;CPF;Endereço\n"
    rows = (
        "Maria;01/12/2026;08:00;111.444.777-35;rua x\n"
        "Maria;01/12/2026;08:00;529.982.247-25;rua y\n"
        "Maria;01/12/2026;08:00;111.444.777-35;rua x\n"
        "Maria;01/12/2026;14:00;111.444.777-35;rua x\n"
    )
    report = await run((header + rows).encode(), store, queue)
    assert report.rows == len(store.rows) == 3
    assert {(row["hora_agendamento"], row["cpf"]) for row in store.rows.values()} == {
        ("08:00", "111.444.777-35"),
        ("08:00", "529.982.247-25"),
        ("14:00", "111.444.777-35"),
    }
    (problem,) = report.errors
    assert (problem.row, problem.fix) == (2, "Valeu a última linha; apague a repetida.")
    again = await run((header + rows).encode(), store, queue)
    assert (again.new, again.equal) == (0, 3)


async def test_an_id_given_to_two_patients_keeps_both(store: MemoryStore, queue: MemoryQueue) -> None:
    report = await run(sheet("1.5;Caio;rua 1;;", "1.5;Davi;rua 2;;", "1.5;Davi Lima;rua 3;;"), store, queue)
    assert sorted(row["endereco_coleta"] for row in store.rows.values()) == ["rua 1", "rua 3"]
    assert [(problem.row, problem.column) for problem in report.errors] == [
        (3, "Id do agendamento"),
        (3, "Id do agendamento"),
    ]
    assert "id de outro paciente, da linha 2" in report.errors[0].found
    assert "dê a cada um o seu id" in report.errors[1].fix


async def test_an_id_given_to_everybody_costs_no_more_than_ids_of_their_own(
    store: MemoryStore, queue: MemoryQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = 0

    def is_same(row: Row, one: str, other: str) -> bool:
        nonlocal compared
        compared += 1
        return row.values["nome_paciente"].casefold() == one

    monkeypatch.setattr(plan, "_is_same", is_same)
    rows = [f"1;Ana{chr(97 + at // 26)}{chr(97 + at % 26)};rua {at};;" for at in range(400)]
    report = await run(sheet(*rows, rows[0]), store, queue)
    assert report.rows == len(store.rows) == 400
    assert compared < 400 * 51


async def test_unknown_statuses_are_listed_once(store: MemoryStore, queue: MemoryQueue) -> None:
    report = await run(sheet("a;Ana;;RG 1;Em triagem", "b;Bia;;RG 2;Em triagem", "c;Caio;;RG 3;Agendado"), store, queue)
    assert report.as_dict()["unknown_statuses"] == {"Em triagem": 2}
    assert (store.rows["a"]["status"], store.rows["a"]["status_informado"]) == ("Pendente", "Em triagem")


async def test_row_problems_are_counted_not_raised(store: MemoryStore, queue: MemoryQueue) -> None:
    report = await run(sheet("a;Ana;rua 1;RG 1;Agendado", ";;;;Total: 1"), store, queue)
    assert report.rows == 1
    assert [problem.row for problem in report.errors] == [3]
    assert report.as_dict()["errors"][0]["sheet"] == "csv"
    assert store.noted[0]["problems"] == 1


async def test_a_queue_that_is_away_costs_no_row_and_is_not_waited_for_again_and_again(store: MemoryStore) -> None:
    queue = MemoryQueue(away=True)
    report = await run(many(2500), store, queue)
    assert (report.new, report.unqueued, len(store.rows)) == (2500, 2500, 2500)
    assert queue.tries == 2  # at once, and once more at the end


async def test_a_queue_that_comes_back_gets_them_all(store: MemoryStore) -> None:
    queue = MemoryQueue(away=True)

    def back(done: int, _total: int) -> None:
        queue.away = done < 2000

    report = await run(many(2500), store, queue, progress=back)
    assert report.unqueued == 0
    assert sorted(queue.ids) == sorted(f"a-{n}" for n in range(2500))


async def test_an_import_cut_short_is_completed_by_the_same_file(store: MemoryStore, queue: MemoryQueue) -> None:
    store.fails_at_call = 2
    with pytest.raises(StoreUnavailable):
        await run(many(2500), store, queue)
    assert "state" not in store.noted[0]
    store.fails_at_call = None
    report = await run(many(2500), store, queue)
    assert (report.new, report.equal) == (1500, 1000)
    assert sorted(queue.ids) == sorted(f"a-{n}" for n in range(2500))


class TestKeys:
    def row(self, **values: str) -> Row:
        return Row("Agenda", 2, values)

    def test_the_natural_key_wins(self) -> None:
        assert key_of(self.row(id_agendamento="a-1", nome_paciente="Ana")) == "a-1"

    def test_without_one_what_names_the_appointment(self) -> None:
        first = self.row(nome_paciente="Ana", data_agendamento="05/01/2026", endereco_coleta="rua x")
        corrected = self.row(nome_paciente="ANA", data_agendamento="05/01/2026", endereco_coleta="rua y", cpf="1")
        other = self.row(nome_paciente="Ana", data_agendamento="06/01/2026", endereco_coleta="rua x")
        assert key_of(first) == key_of(corrected) != key_of(other)
        assert "Ana" not in key_of(first)

    @given(st.dictionaries(st.sampled_from(["endereco_coleta", "cpf", "rg", "cep"]), st.text(min_size=1), min_size=1))
    def test_without_a_name_all_that_is_there(self, values: dict[str, str]) -> None:
        assert key_of(Row("a", 1, values)) == key_of(Row("b", 9, dict(reversed(values.items()))))
        assert key_of(Row("a", 1, values)) != key_of(Row("a", 1, {**values, "observacoes": "x"}))
