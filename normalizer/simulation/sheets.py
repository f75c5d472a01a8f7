"""Synthetic sheets of any size in the deployed export's own 30 columns, with what each text should become.

`python -m normalizer.simulation.sheets --rows 2000 --seed 7 --out DIR` writes `sheet.xlsx` and `labels.jsonl`;
`--repeated 0.3` and the other shares of `Mess` say how untidy. The same seed gives the same rows, and a shorter sheet
is the beginning of a longer one. Labels follow tests/gold/CONVENTIONS.md; a label's values are carried by its text.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import random
import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from importlib.resources import as_file, files
from itertools import islice
from pathlib import Path
from typing import Final

from normalizer.simulation.texts import EXAMS, GIVEN_NAMES, INSURERS, SURNAMES, Labelled, address, document

COLUMNS: Final = (
    "Nome da Marca",
    "Código da Unidade",
    "Nome da Unidade",
    "Status Agendamento",
    "Id do agendamento",
    "Id da agenda",
    "Código da Sala",
    "Nome da Sala",
    "Data/Hora Início Agendamento",
    "Data/Hora Fim Agendamento",
    "Nome do Paciente",
    "Códigos dos Exames",
    "Nomes dos Exames",
    "Total Exames",
    "Endereço Coleta",
    "Categoria",
    "Convênio",
    "Nome do Convênio",
    "Nr. Carteira",
    "CRM Pedido Médico",
    "Canal de Efetivação",
    "Usuário Marcação",
    "Data da Efetivação",
    "Status Confirmação",
    "Canal Confirmação",
    "Data/Hora Confirmação",
    "Observação",
    "Documento(s) do Paciente",
    "Contato(s) do Paciente",
    "Nascimento",
)
DEMO_ROWS: Final = 2_000
DEMO_SEED: Final = 20_261_123
_HEADER_ROW: Final = 2  # 0-based: a title and a blank row stand above it, as in many exports
_START: Final = dt.datetime(2026, 12, 1, 7, 0, tzinfo=dt.UTC)
_UNITS: Final = (("U01", "Unidade Centro"), ("U02", "Unidade Norte"), ("U03", "Unidade Sul"))
_STATUSES: Final = ("Agendado", "Agendado", "Agendado", "Efetivado", "Realizado", "Em atendimento")


@dataclass(frozen=True, slots=True)
class Mess:
    """How untidy the sheet is; shares from 0 to 1.

    Attributes:
        repeated: rows that repeat the texts of an earlier row (one patient, several appointments).
        untidy: addresses that are abbreviated, without commas, in capitals, swapped …, of those that can be used.
        remarked: addresses with words around them that are no address, of those that can be used.
        unusable: rows whose address or documents cannot be used at all.
        documented: patients who have any documents in the sheet.
    """

    repeated: float = 0.30
    untidy: float = 0.35
    remarked: float = 0.20
    unusable: float = 0.048
    documented: float = 1.0


@dataclass(frozen=True, slots=True)
class ScenarioRow:
    """One row: its 30 cells, and the labels of its two texts (None where the cell is empty)."""

    cells: tuple[object, ...]
    address: Labelled | None
    document: Labelled | None


@dataclass(frozen=True, slots=True)
class _Patient:
    name: str
    born: str
    contact: str
    address: Labelled | None
    document: Labelled | None


def generate(seed: int = DEMO_SEED, mess: Mess | None = None) -> Iterator[ScenarioRow]:
    """Yield rows without end."""
    mess = mess or Mess()
    rng = random.Random(seed)
    patients: list[_Patient] = []
    number = 0
    while True:
        if patients and rng.random() < mess.repeated:
            patient = rng.choice(patients)
        else:
            patient = _patient(rng, mess)
            patients.append(patient)
        yield ScenarioRow(_cells(rng, number, patient), patient.address, patient.document)
        number += 1


def write_scenario(directory: Path, *, rows: int, seed: int = DEMO_SEED, mess: Mess | None = None) -> tuple[Path, Path]:
    """Write `sheet.xlsx` and `labels.jsonl` under `directory`; returns both paths. Needs xlsxwriter (demo extra)."""
    directory.mkdir(parents=True, exist_ok=True)
    sheet, labels = directory / "sheet.xlsx", directory / "labels.jsonl"
    made = list(islice(generate(seed, mess), rows))
    write_sheet(sheet, made)
    write_labels(labels, made)
    return sheet, labels


def demo_scenario(directory: Path, rows: int = DEMO_ROWS) -> tuple[Path, Path]:
    """Put the demo's sheet and labels under `directory`: the bundled ones, or as many rows of the same as asked for."""
    if rows != DEMO_ROWS:
        return write_scenario(directory, rows=rows)
    directory.mkdir(parents=True, exist_ok=True)
    bundled = files("normalizer.simulation")
    targets = (directory / "sheet.xlsx", directory / "labels.jsonl")
    for name, target in zip(("demo.xlsx", "demo_labels.jsonl"), targets, strict=True):
        with as_file(bundled / name) as path:
            shutil.copyfile(path, target)
    return targets


def write_sheet(path: Path, rows: list[ScenarioRow]) -> None:
    """Write the rows as the deployed system exports them, with a title above the header and a hidden sheet."""
    import xlsxwriter  # noqa: PLC0415 — only the demo extra has it

    with xlsxwriter.Workbook(str(path), {"strings_to_urls": False}) as book:
        book.set_properties({"title": "Agendamentos sintéticos", "created": dt.datetime(2026, 11, 23)})
        sheet = book.add_worksheet("Agendamentos")
        sheet.write_string(0, 0, "Relatório de agendamentos (dados sintéticos, nenhum paciente existe)")
        for at, row in enumerate([COLUMNS, *(row.cells for row in rows)], start=_HEADER_ROW):
            for column, cell in enumerate(row):
                if isinstance(cell, str):
                    sheet.write_string(at, column, cell)
                elif cell is not None:
                    sheet.write_number(at, column, cell)
        book.add_worksheet("Parâmetros").hide()


def write_labels(path: Path, rows: list[ScenarioRow]) -> None:
    """Write one line for each distinct text: `{"text", "expected", "kind", "usable"}`."""
    lines: dict[tuple[str, str], str] = {}
    for row in rows:
        for kind, found in (("endereco", row.address), ("documento", row.document)):
            if found is not None:
                label = {"text": found.text, "expected": found.expected, "kind": kind}
                lines[kind, found.text] = json.dumps(label | {"usable": bool(found.expected)}, ensure_ascii=False)
    path.write_text("".join(f"{line}\n" for line in lines.values()), encoding="utf-8")


def _patient(rng: random.Random, mess: Mess) -> _Patient:
    # One or the other is lost, seldom both.
    lost = rng.random() < mess.unusable
    lost_address = lost and rng.random() < 0.6
    lost_document = lost and (not lost_address or rng.random() < 0.1)
    # No draw where every patient has some: the rows of earlier versions stay the same.
    documented = mess.documented >= 1 or rng.random() < mess.documented
    born = dt.date(1930, 1, 1) + dt.timedelta(days=rng.randrange(33_000))
    return _Patient(
        name=f"{rng.choice(GIVEN_NAMES)} {' '.join(rng.sample(SURNAMES, 2))}",
        born=f"{born:%d/%m/%Y}",
        contact=_contact(rng),
        address=address(
            rng, remarked=rng.random() < mess.remarked, untidy=rng.random() < mess.untidy, lost=lost_address
        ),
        document=document(rng, lost=lost_document) if documented else None,
    )


def _contact(rng: random.Random) -> str:
    phone = f"({rng.randint(11, 99)}) 90000-{rng.randrange(10_000):04}"
    return f"{phone}, paciente{rng.randrange(10_000)}@example.com" if rng.random() < 0.4 else phone


def _cells(rng: random.Random, number: int, patient: _Patient) -> tuple[object, ...]:
    unit, unit_name = rng.choice(_UNITS)
    start = _START + dt.timedelta(minutes=10 * number)
    code, exam = rng.choice(EXAMS)
    insurer, insurer_name = rng.choice(INSURERS)
    confirmed = rng.random() < 0.5
    return (
        "Laboratório Exemplo",
        unit,
        unit_name,
        rng.choice(_STATUSES),
        str(uuid.UUID(int=rng.getrandbits(128), version=4)),
        f"{rng.randrange(10**6):06}",
        f"S{rng.randint(1, 9)}",
        f"Sala {rng.randint(1, 9)}",
        _moment(start),
        _moment(start + dt.timedelta(minutes=10)),
        patient.name,
        code,
        exam,
        float(rng.randint(1, 6)),
        patient.address.text if patient.address else None,
        rng.choice(("Coleta domiciliar", "Coleta em unidade")),
        insurer,
        insurer_name,
        f"{rng.randrange(10**9):09}" if insurer != "900" else None,
        f"CRM-{rng.randrange(10**5):05}" if rng.random() < 0.8 else None,
        rng.choice(("Site", "Telefone", "Aplicativo")),
        f"usuario{rng.randint(1, 20)}",
        _moment(start - dt.timedelta(days=3)),
        "Confirmado" if confirmed else "Pendente",
        "WhatsApp" if confirmed else None,
        _moment(start - dt.timedelta(days=1)) if confirmed else None,
        rng.choice((None, None, None, "jejum de 8 horas", "prefere manhã")),
        patient.document.text if patient.document else None,
        patient.contact,
        patient.born,
    )


def _moment(when: dt.datetime) -> str:
    return f"{when:%d/%m/%Y %H:%M:%S}"


def main(argv: Sequence[str] | None = None) -> None:
    """Write a scenario, or with `--bundle` the demo's own files."""
    parser = argparse.ArgumentParser(description="synthetic sheets with labels")
    parser.add_argument("--rows", type=int, default=DEMO_ROWS)
    parser.add_argument("--seed", type=int, default=DEMO_SEED)
    parser.add_argument("--out", type=Path, required=True)
    for share in fields(Mess):
        parser.add_argument(f"--{share.name}", type=float, default=share.default, help="a share from 0 to 1")
    parser.add_argument("--bundle", action="store_true", help="name the files as the package bundles them")
    options = parser.parse_args(argv)
    mess = Mess(**{share.name: getattr(options, share.name) for share in fields(Mess)})
    sheet, labels = write_scenario(options.out, rows=options.rows, seed=options.seed, mess=mess)
    if options.bundle:
        sheet, labels = sheet.rename(options.out / "demo.xlsx"), labels.rename(options.out / "demo_labels.jsonl")
    print(f"{sheet}\n{labels}")


if __name__ == "__main__":
    main()
