"""`undo`, `export-errors` and `serve`, as a user runs them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from python_calamine import CalamineWorkbook

from normalizer import cli
from tests.integration.command import Ran
from tests.integration.test_cli import SHEET


@pytest.mark.usefixtures("services")
class TestAfterAnImport:
    def start(self, run: Callable[..., Ran], tmp_path: Path, content: str) -> str:
        file = tmp_path / "agenda.csv"
        file.write_text(content, encoding="utf-8")
        found: str = run("import", str(file), "--json").json["import_id"]
        return found

    def test_undo_takes_it_back_and_only_once(self, run: Callable[..., Ran], tmp_path: Path, mongo: Any) -> None:
        import_id = self.start(run, tmp_path, SHEET)

        undone, again = run("undo", import_id, "--json"), run("undo", import_id)

        assert undone.json == {"removidos": 2, "restaurados": 0, "mantidos": 0}
        assert mongo["appointments"].count_documents({}) == 0
        assert again.code == cli.FAILED
        assert "já desfeita" in again.err

    def test_what_was_wrong_can_be_corrected_in_a_sheet(self, run: Callable[..., Ran], tmp_path: Path) -> None:
        import_id = self.start(run, tmp_path, SHEET + "a3;Três;99/99/2026;Rua B, 1;RG: 123456789\n")

        ran = run("export-errors", import_id, str(tmp_path / "out.xlsx"))

        assert ran.code == 0
        rows = CalamineWorkbook.from_path(str(tmp_path / "out.xlsx")).get_sheet_by_index(0).to_python()
        assert rows[0][-2:] == ["Erro", "Como corrigir"]
        assert rows[1][:2] == ["a3", "Três"]

    @pytest.mark.parametrize("command", [("undo", "nope"), ("export-errors", "nope", "out.xlsx")])
    def test_an_import_that_does_not_exist(self, run: Callable[..., Ran], command: tuple[str, ...]) -> None:
        ran = run(*command)
        assert ran.code == cli.FAILED
        assert "nope" in ran.err


@pytest.mark.usefixtures("services")
class TestServe:
    def test_production_without_a_key_is_refused(
        self, run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ENVIRONMENT", "production")
        ran = run("serve")
        assert ran.code == cli.USAGE
        assert "API_KEYS" in ran.err

    def test_another_machine_without_a_key_is_refused(self, run: Callable[..., Ran]) -> None:
        assert run("serve", "--host", "0.0.0.0").code == cli.USAGE  # noqa: S104
