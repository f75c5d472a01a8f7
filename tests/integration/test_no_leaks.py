"""No datum of a patient in any log line: a whole import through real processes, at DEBUG, on bad days as well."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import python_calamine

from normalizer.simulation import embedded
from normalizer.simulation.sheets import write_scenario
from tests.acceptance.harness import Deployment, Row, make_rows, write_labels

#: Columns that say something about a person. The others (units, exams, rooms, canais) are the clinic's own words.
PERSONAL = (
    "Nome do Paciente",
    "Endereço Coleta",
    "Nr. Carteira",
    "CRM Pedido Médico",
    "Observação",
    "Documento(s) do Paciente",
    "Contato(s) do Paciente",
    "Nascimento",
)
#: The sheet's rows are read by rules; these only a model reads.
HARD = make_rows(40, hard=1.0, seed=9)
_DIGIT_RUN = re.compile(r"\d[\d.\-/ ()]*\d")
_ISO_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d[:.\d]*Z?")


def personal_values(sheet: Path) -> tuple[set[str], set[str]]:
    """Every value, and every part of one that could stand alone; and every digit run as bare digits."""
    table = python_calamine.CalamineWorkbook.from_path(str(sheet)).get_sheet_by_index(0).to_python()
    header = next(row for row in table if "Nome do Paciente" in row)
    columns = [header.index(name) for name in PERSONAL]
    words: set[str] = set()
    digits: set[str] = set()
    in_sheet = [str(row[column]).strip() for row in table[table.index(header) + 1 :] for column in columns]
    for value in filter(None, [*in_sheet, *(text for row in HARD for text in texts_of(row))]):
        words |= {value, *(part.strip() for part in re.split(r"[,;:|\n]", value))}
        digits |= {re.sub(r"\D", "", run) for run in [*_DIGIT_RUN.findall(value), *re.findall(r"\d+", value)]}
    return (
        {word.casefold() for word in words if len(word) >= 6 and re.search(r"[^\W\d_]", word)},
        {run for run in digits if len(run) >= 7},
    )


def texts_of(row: Row) -> Iterator[str]:
    yield from row.fields.values()
    yield from (value for value in row.address.values() if value and not value.isupper())


def leaks(log: str, words: set[str], digits: set[str]) -> list[str]:
    """What of it stands in the log, shown with its line."""
    found = []
    for line in log.splitlines():
        folded = line.casefold()
        found += [f"{word!r} in {line}" for word in words if word in folded]
        bare = _ISO_TIME.sub(" ", line)
        runs = {re.sub(r"\D", "", run) for run in _DIGIT_RUN.findall(bare)} | set(re.findall(r"\d+", bare))
        found += [f"{run} in {line}" for run in runs & digits]
    return found


@pytest.fixture
def scenario(tmp_path: Path) -> tuple[Path, Path]:
    return write_scenario(tmp_path / "scenario", rows=150, seed=5)


@pytest.fixture
def deployment(
    tmp_path: Path,
    redis_url: str,
    mongo_url: str,
    database: str,
    scenario: tuple[Path, Path],
    start_provider: Callable[..., embedded.ProviderService],
) -> Iterator[Deployment]:
    labels = tmp_path / "labels.jsonl"
    known = write_labels(tmp_path / "hard.jsonl", HARD).read_text(encoding="utf-8")
    labels.write_text(scenario[1].read_text(encoding="utf-8") + known, encoding="utf-8")
    made = Deployment(tmp_path, redis_url, mongo_url, database, start_provider(labels))
    yield made
    made.close()


def post_faults(deployment: Deployment, *faults: dict[str, Any]) -> None:
    body = json.dumps(list(faults)).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{deployment.provider.root_url}/faults", body, headers)  # noqa: S310
    urllib.request.urlopen(request, timeout=60).close()  # noqa: S310


def test_the_search_finds_what_is_there(scenario: tuple[Path, Path]) -> None:
    words, digits = personal_values(scenario[0])
    table = python_calamine.CalamineWorkbook.from_path(str(scenario[0])).get_sheet_by_index(0).to_python()
    row = table[-1]
    cpf = next(run for run in digits if len(run) == 11)
    formatted = f"{cpf[:3]}.{cpf[3:6]}.{cpf[6:9]}-{cpf[9:]}"

    for line in (f'{{"x": "{row[10]}"}}', f"took {row[14]}", f"cpf {formatted} bad", f"cpf {cpf}", f"tel {row[28]}"):
        assert leaks(line, words, digits), line
    assert leaks("2026-11-23T19:08:42.123456Z [info] queue.group.done jobs=150", words, digits) == []


@pytest.mark.parametrize("environment", ["production", "development"])
def test_no_log_line_holds_an_input_value(
    deployment: Deployment, scenario: tuple[Path, Path], environment: str
) -> None:
    words, digits = personal_values(scenario[0])
    assert len(words) > 300
    assert len(digits) > 300
    post_faults(
        deployment, {"kind": "status"}, {"kind": "prose"}, {"kind": "garbage"}, {"kind": "status", "status": 400}
    )
    worker = deployment.start_ready_worker(LOG_LEVEL="DEBUG", ENVIRONMENT=environment, DEBUG="true")

    said = [deployment.cli("import", str(scenario[0]), "--json"), deployment.cli("status")]
    deployment.put(HARD)
    deployment.wait_until_all_ended(rows=190)
    said += [deployment.cli("retry", "--review", "--json"), deployment.cli("status", "--json")]
    deployment.wait_until_all_ended(rows=190)
    worker.stop()

    log = worker.output()
    assert deployment.asked() > 0
    assert "queue.group.done" in log
    assert json.loads(said[0].stdout)["import_id"] in log  # who looks for an import finds it
    assert leaks(log, words, digits) == []
    for ran in said:
        assert ran.returncode == 0, ran.stderr
        assert leaks(ran.stdout + ran.stderr, words, digits) == []


def test_a_broken_world_says_no_more(
    deployment: Deployment, scenario: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors quote what they choked on: a record MongoDB refuses, an answer that is no JSON, a stored value of a kind
    nobody expects."""
    words, digits = personal_values(scenario[0])
    deployment.cli("import", str(scenario[0]), "--json")
    deployment.put(HARD)
    for at, record in enumerate(list(deployment.appointments.find().limit(30))):
        odd: Any = [record.get("endereco_coleta")] if at % 3 else {"texto": record.get("documento_completo")}
        field = "endereco_coleta" if at % 3 else "documento_completo"
        deployment.appointments.update_one({"_id": record["_id"]}, {"$set": {field: odd, "normalizacao.endereco": 7}})
    post_faults(deployment, {"kind": "status", "status": 401, "times": 1_000})  # the control question's, too

    worker = deployment.start_ready_worker(LOG_LEVEL="DEBUG", ENVIRONMENT="production", MAX_TRIES="1")
    deployment.wait(
        lambda: deployment.ended() > 0 and "llm.lane.stopped" in worker.output(), "it works and the key is refused"
    )
    told = deployment.cli("status")
    worker.stop()

    assert leaks(worker.output() + told.stdout + told.stderr, words, digits) == []
