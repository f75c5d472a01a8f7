"""The synthetic sheets: their shares, their labels, and that the bundled demo is what the generator makes."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from normalizer.domain.decision import Settled
from normalizer.domain.document import cpf_is_valid, parse_document
from normalizer.imports.spreadsheet import read
from normalizer.simulation.sheets import (
    COLUMNS,
    DEMO_ROWS,
    DEMO_SEED,
    Mess,
    demo_scenario,
    generate,
    main,
    write_scenario,
)
from normalizer.simulation.texts import CITIES, DISTRICTS, GIVEN_NAMES, STREET_NAMES
from tests.gold.score import ADDR, DOCS, UF_CEP, hallucinations

ROWS = list(islice(generate(), DEMO_ROWS))


def addresses() -> list[tuple[str, dict[str, Any]]]:
    return [(row.address.text, row.address.expected) for row in ROWS if row.address and row.address.expected]


def documents() -> list[tuple[str, dict[str, Any] | None]]:
    return [(row.document.text, row.document.expected) for row in ROWS if row.document]


def test_thirty_columns() -> None:
    assert len(COLUMNS) == len(set(COLUMNS)) == 30
    assert {len(row.cells) for row in ROWS} == {30}
    assert len({row.cells[4] for row in ROWS}) == DEMO_ROWS


def test_the_seed_decides_and_a_shorter_sheet_is_the_beginning_of_a_longer_one() -> None:
    assert list(islice(generate(5), 50)) == list(islice(generate(5), 80))[:50]
    assert list(islice(generate(5), 50)) != list(islice(generate(6), 50))


def test_shares_are_those_asked_for() -> None:
    texts = [row.address.text if row.address else None for row in ROWS]
    assert 0.27 <= 1 - len(set(texts)) / len(texts) <= 0.35
    unusable = sum(
        not (row.address and row.address.expected and row.document and row.document.expected) for row in ROWS
    )
    assert 0.04 <= unusable / DEMO_ROWS <= 0.05


def test_shares_can_be_set() -> None:
    rows = list(islice(generate(1, Mess(repeated=0, untidy=0, remarked=0, unusable=0)), 300))
    assert len({row.document.text for row in rows if row.document}) == 300
    assert all(row.address and row.address.expected and row.document and row.document.expected for row in rows)
    rows = list(islice(generate(1, Mess(documented=0.25)), 600))
    assert 0.15 < sum(row.document is not None for row in rows) / 600 < 0.35
    rows = list(islice(generate(1, Mess(repeated=0, unusable=1)), 100))
    assert not any(row.address and row.address.expected and row.document and row.document.expected for row in rows)


def test_the_command_takes_the_shares(tmp_path: Path) -> None:
    main(["--rows", "40", "--seed", "3", "--documented", "0", "--repeated", "1", "--out", str(tmp_path)])
    labels = [json.loads(line) for line in (tmp_path / "labels.jsonl").read_text("utf-8").splitlines()]
    assert [label["kind"] for label in labels] == ["endereco"]
    assert len(list(read(tmp_path / "sheet.xlsx").rows())) == 40


def test_every_value_of_an_address_label_is_carried_by_its_text() -> None:
    assert [text for text, expected in addresses() if hallucinations(text, expected, ADDR)] == []


def test_address_labels_hold_the_conventions() -> None:
    for _, expected in addresses():
        assert list(expected) == ADDR
        assert expected["rua"]
        assert expected["cidade"] in {city.name for city in CITIES}
        assert expected["numero"] is None or expected["numero"].isdecimal()
        if expected["cep"]:
            prefix = int(expected["cep"][:5])
            assert any(low <= prefix <= high for low, high in UF_CEP[expected["estado"]])


def test_document_labels_are_what_the_rules_read() -> None:
    for text, expected in documents():
        decision = parse_document(text)
        assert (decision.value.as_dict() if isinstance(decision, Settled) else None) == expected, text
        assert not hallucinations(text, expected, DOCS)
        assert expected is None or expected["cpf"] is None or cpf_is_valid(expected["cpf"])


def test_the_mess_of_real_sheets_is_there() -> None:
    texts = [text for text, _ in documents()]
    for damage in (".0, RG", "-X", "SSP", "CPF: - RG: -"):
        assert any(damage in text for text in texts), damage
    assert any(expected and expected["cpf"] is None for _, expected in documents())
    streets = [text for text, _ in addresses()]
    assert any(text.isupper() for text in streets)
    assert any("," not in text for text in streets)
    assert sum(row.address is None for row in ROWS) > 5
    assert sum(row.document is None for row in ROWS) > 5


def test_nobody_is_real() -> None:
    for row in ROWS:
        name, contact = row.cells[10], row.cells[28]
        assert str(name).split()[0] in GIVEN_NAMES
        assert "90000-" in str(contact)
    words = " ".join([name for name, _ in STREET_NAMES] + [name for name, _ in DISTRICTS])
    assert "Exemplo" not in words


def test_written_and_read_back(tmp_path: Path) -> None:
    sheet, labels = write_scenario(tmp_path, rows=60, seed=9)
    known = {(row["kind"], row["text"]): row for row in map(json.loads, labels.read_text("utf-8").splitlines())}
    opened = read(sheet)
    rows = list(opened.rows())
    assert (len(rows), opened.problems, opened.hidden_sheets) == (60, [], ("Parâmetros",))
    assert opened.sheets[0].header.row == 3
    for row in rows:
        for kind, field in (("endereco", "endereco_coleta"), ("documento", "documento_completo")):
            if field in row.values:
                label = known[kind, row.values[field]]
                assert label["usable"] is (label["expected"] is not None)


def test_the_bundled_demo_is_what_the_generator_makes(tmp_path: Path) -> None:
    bundled_sheet, bundled_labels = demo_scenario(tmp_path / "bundled")
    made_sheet, made_labels = write_scenario(tmp_path / "made", rows=DEMO_ROWS, seed=DEMO_SEED)
    assert list(read(bundled_sheet).rows()) == list(read(made_sheet).rows())
    assert bundled_labels.read_text("utf-8") == made_labels.read_text("utf-8")


@pytest.mark.parametrize("rows", [25, DEMO_ROWS + 5])
def test_the_demo_can_be_cut_and_made_longer(tmp_path: Path, rows: int) -> None:
    sheet, _ = demo_scenario(tmp_path / "some", rows)
    whole, _ = demo_scenario(tmp_path / "whole")
    some = list(read(sheet).rows())
    assert len(some) == rows
    assert all(a == b for a, b in zip(some, read(whole).rows(), strict=False))
