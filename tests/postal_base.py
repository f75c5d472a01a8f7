"""A made-up postal base: invented streets and districts in real cities, as the package's database and as a CSV."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from normalizer.domain.address.postal import Row
from normalizer.postal import IndexedBase, open_base

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_DISTRICTS = ("Jardim Aurora", "Vila Lua", "Estrela do Sul", "Centro", "Parque dos Ventos")
_NAMES = (
    "Rua das Pitangas", "Avenida Maestro Fictício", "Travessa do Moinho", "Rua Sete de Setembro", "Rua Vento Leste",
    "Alameda dos Cedros", "Rua Doutora Exemplina Modelo", "Rua Água Rasa", "Praça do Coreto", "Rua Poeta Inventado",
)  # fmt: skip


def _city(city: str, uf: str, first: int, prefix: str = "") -> list[Row]:
    """Forty streets of a city, eight in each of five districts."""
    names = [f"{name}{prefix}" for name in _NAMES] + [f"Rua Planeta {number}{prefix}" for number in range(1, 31)]
    return [
        Row(f"{first + 10 * at:08}", name, f"{_DISTRICTS[at % 5]}{prefix}", city, uf) for at, name in enumerate(names)
    ]


ROWS: Sequence[Row] = [
    *_city("Campinas", "SP", 13_010_010),
    *_city("Santos", "SP", 11_010_010, " do Mar"),
    Row("98918000", "", "", "Boa Vista do Buricá", "RS"),  # one CEP for the whole town
]


def write_package(file: Path, rows: Sequence[Row] = ROWS) -> None:
    """Write the database that the package brings: five tables, each name once."""
    tables = {"states": "uf", "cities": "city", "neighborhoods": "district", "streets": "street"}
    with closing(sqlite3.connect(file)) as db:
        numbers: dict[str, dict[str, int]] = {}
        for table, field in tables.items():
            column = "sigla" if table == "states" else "nome"
            db.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, {column} TEXT NOT NULL)")
            numbers[field] = {name: at for at, name in enumerate(sorted({getattr(row, field) for row in rows}))}
            db.executemany(f"INSERT INTO {table} VALUES (?, ?)", ((at, name) for name, at in numbers[field].items()))  # noqa: S608
        db.execute("CREATE TABLE ceps (cep INTEGER PRIMARY KEY, uf_id, city_id, neigh_id, street_id)")
        found = ([int(row.cep), *(numbers[field][getattr(row, field)] for field in tables.values())] for row in rows)
        db.executemany("INSERT INTO ceps VALUES (?, ?, ?, ?, ?)", found)
        db.commit()


def write_csv(file: Path, rows: Sequence[Row] = ROWS) -> None:
    """Write a clinic's own list, as Excel saves it in Brazil."""
    lines = ["CEP;Logradouro;Bairro;Cidade;UF", *(";".join(row) for row in rows)]
    file.write_bytes("\r\n".join(lines).encode("cp1252"))


def made_up(directory: Path, rows: Sequence[Row] = ROWS) -> IndexedBase:
    """Return the base of these rows, indexed in `directory`."""
    file = directory / "ceps.csv"
    write_csv(file, rows)
    base = open_base(str(file), directory=directory)
    assert base is not None
    return base
