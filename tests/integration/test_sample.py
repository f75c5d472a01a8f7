"""The README's walk with the sample sheet, as a new operator takes it: import, read, correct, import again, undo."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from python_calamine import CalamineWorkbook
from xlsxwriter import Workbook

from normalizer.runtime import build_worker
from normalizer.settings import load_settings
from tests.integration.command import Ran

SAMPLE = Path(__file__).parents[2] / "docs" / "exemplos" / "agenda.csv"
TOLD = ("--map", "Onde mora=endereco_completo")


def cells(path: Path) -> list[list[object]]:
    return CalamineWorkbook.from_path(str(path)).get_sheet_by_index(0).to_python()


def id_in(ran: Ran) -> str:
    """The import's id, where the operator finds it."""
    return ran.err.split("normalizer undo ")[1].split()[0]


async def work() -> None:
    """A worker, until nothing waits."""
    worker = build_worker(load_settings(), burst=True, handle_signals=False, poll_delay=0.05)
    await worker.async_run()
    await worker.close()


@pytest.mark.usefixtures("services")
def test_import_read_correct_import_again_undo(run: Callable[..., Ran], mongo: Any, tmp_path: Path) -> None:
    refused = run("import", str(SAMPLE), "--dry-run")
    assert "“Onde mora”" in refused.err
    assert "uma coluna de endereço" in refused.err

    first = run("import", str(SAMPLE), *TOLD)
    assert first.out == "9 linhas importadas: 9 novas, 0 alteradas, 0 iguais, 3 com problema.\n", first.err
    for said in ("linha 8, coluna “Data/Hora Início Agendamento”", "o mesmo agendamento na linha 14", "linha 16"):
        assert said in first.err
    assert "Fictício" not in first.err
    asyncio.run(work())
    states = {one["id_agendamento"]: one["normalizacao"]["status"] for one in mongo["appointments"].find()}
    assert (states["EX-01"], states["EX-06"]) == ("concluido", "revisar")
    assert set(states.values()) == {"concluido", "revisar"}

    report = tmp_path / "para-corrigir.xlsx"
    assert run("export-errors", id_in(first), str(report)).code == 0
    titles, *rows = cells(report)
    wrong = next(row for row in rows if row[0] == "EX-04")
    assert "data e hora" in str(wrong[titles.index("Erro")])

    corrected = tmp_path / "corrigido.xlsx"
    with Workbook(str(corrected)) as book:
        page = book.add_worksheet()
        page.write_row(0, 0, titles[:-2])
        page.write_row(1, 0, ["01/12/2026 08:30:00" if cell == "amanhã cedo" else cell for cell in wrong[:-2]])
    second, again = run("import", str(corrected)), run("import", str(corrected))
    assert second.out.endswith("0 com problema.\n"), second.err
    assert mongo["appointments"].find_one({"id_agendamento": "EX-04"})["hora_agendamento"] == "08:30"
    assert again.out == "1 linha importada: 0 novas, 0 alteradas, 1 igual, 0 com problema.\n"

    for ran in (second, first):
        assert run("undo", id_in(ran)).code == 0
    assert mongo["appointments"].count_documents({}) == 0
