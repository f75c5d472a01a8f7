"""The search for settings, a live endpoint measured within a purse, and what an operator reads of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.model import Costs, Deployment, Model, Workload
from benchmarks.scale import RESULTS
from benchmarks.tune.__main__ import main
from benchmarks.tune.endpoint import probe
from benchmarks.tune.search import advice, search
from benchmarks.tune.verify import environment_of
from benchmarks.tune.workload import of_file, of_words
from normalizer.errors import InvalidInput, ProviderTooSlow, RateLimited
from normalizer.llm.client import Answer, Usage
from normalizer.llm.pricing import Price
from normalizer.settings import settings_of
from normalizer.simulation.sheets import generate, write_sheet

COSTS = Costs.of(json.loads(RESULTS.read_text("utf-8")))
LOAD = Workload()
ACCOUNT = Deployment()
ROOT = Path(__file__).resolve().parents[2]


def test_nothing_that_is_searched_is_much_faster_and_nothing_smaller_as_fast() -> None:
    found = search(COSTS, LOAD, ACCOUNT, 100_000)
    everything = Deployment(16, 40, 250, 25, 32)
    assert found.seconds <= 1.05 * Model(COSTS, LOAD, everything).seconds(100_000)
    if found.at.replicas > 1:
        fewer = search(COSTS, LOAD, ACCOUNT, 100_000, most=found.at.replicas - 1)
        assert fewer.seconds > found.seconds


def test_it_says_when_more_replicas_do_not_help() -> None:
    starved = search(COSTS, LOAD, replace(ACCOUNT, tpm=20_000.0), 100_000)
    assert (starved.limit, starved.more_helps) == ("tpm", False)
    free = replace(ACCOUNT, rpm=0.0, tpm=0.0, latency_s=0.1, tokens_per_s=0.0)
    busy = advice(COSTS, LOAD, replace(free, replicas=1), 100_000)
    assert (busy.limit, busy.more_helps) == ("cpu", True)


def test_a_group_has_room_in_its_time() -> None:
    for tpm in (5_000.0, 50_000.0, 4_000_000.0):
        found = search(COSTS, LOAD, replace(ACCOUNT, tpm=tpm), 50_000)
        model = Model(COSTS, LOAD, found.at)
        in_work = found.at.replicas * found.at.max_jobs * found.at.batch_items
        assert 2 * in_work / model.throughput()[0] <= found.at.job_timeout_s


def test_the_recommended_environment_is_one_the_worker_takes() -> None:
    found = search(COSTS, LOAD, ACCOUNT, 10_000)
    settings = settings_of(environment_of(found.at))
    assert settings.arq_max_jobs == found.at.max_jobs
    assert settings.llm_records_per_call == found.at.records_per_call
    assert settings.arq_job_timeout == found.at.job_timeout_s


# -- workloads


def test_a_sheet_is_read_as_an_import_reads_it(tmp_path: Path) -> None:
    rows = [row for row, _ in zip(generate(5), range(300), strict=False)]
    write_sheet(tmp_path / "agenda.xlsx", rows)

    sheet = of_file(tmp_path / "agenda.xlsx", model="gpt-6-luna")

    assert sheet.rows == 300
    assert 0 < sheet.load.residual < 0.2
    assert 0 <= sheet.load.known < 1
    assert 10 < sheet.load.tokens_out < sheet.load.tokens_in < 120


def test_a_description_grows_with_the_length_of_its_addresses() -> None:
    short, long = (
        of_words(100, residual=0.2, known=0.1, characters=characters, model="gpt-6-luna").load
        for characters in (40.0, 160.0)
    )
    assert short.asked == pytest.approx(0.18)
    assert 3 < (long.tokens_out - 8) / (short.tokens_out - 8) < 5


# -- a live endpoint


class Line:
    """An endpoint that takes `latency_s` and then writes so fast; it counts what it was asked."""

    def __init__(self, *, latency_s: float, tokens_per_s: float, refuse_from: int = 99) -> None:
        self.latency_s, self.tokens_per_s, self.refuse_from = latency_s, tokens_per_s, refuse_from
        self.refusal: Exception = RateLimited("too many", retry_after_s=1)
        self.asked: list[int] = []

    async def complete(self, records: Any, *, max_tokens_out: int, timeout_s: float | None = None) -> Answer:
        if len(self.asked) >= self.refuse_from:
            raise self.refusal
        self.asked.append(len(records))
        usage = Usage(500 + 40 * len(records), 30 * len(records))
        assert usage.tokens_out <= max_tokens_out
        seconds = self.latency_s + usage.tokens_out / self.tokens_per_s
        headers = {"x-ratelimit-limit-requests": "500", "x-ratelimit-limit-tokens": "200000"}
        return Answer(({"rua": "x"},) * len(records), usage, seconds, headers=headers)  # type: ignore[arg-type]


async def test_an_endpoints_speed_and_limits_are_found() -> None:
    found = await probe(Line(latency_s=0.5, tokens_per_s=100), model="m", price=Price(1, 1, 1), max_usd=1)

    assert found.latency_s == pytest.approx(0.5)
    assert found.tokens_per_s == pytest.approx(100)
    assert (found.rpm, found.tpm, found.answered, found.calls) == (500, 200_000, 1.0, 6)


async def test_no_call_is_made_that_the_purse_might_not_cover() -> None:
    line = Line(latency_s=0.1, tokens_per_s=100)
    found = await probe(line, model="m", price=Price(1, 1, 1), max_usd=0.005)

    assert 1 <= found.calls < 6
    assert found.usd <= 0.005
    with pytest.raises(InvalidInput, match="max-usd"):
        await probe(line, model="m", price=Price(1, 1, 1), max_usd=0.0001)
    assert len(line.asked) == found.calls


async def test_an_endpoint_that_is_too_slow_for_large_calls_is_measured_by_the_small_ones() -> None:
    line = Line(latency_s=0.1, tokens_per_s=100, refuse_from=1)
    line.refusal = ProviderTooSlow("too slow")
    assert (await probe(line, model="m", price=Price(1, 1, 1), max_usd=1)).calls == 1
    line.asked, line.refuse_from = [], 0
    with pytest.raises(InvalidInput, match=r"--endpoint.*--latency-s"):
        await probe(line, model="m", price=Price(1, 1, 1), max_usd=1)


async def test_a_limit_that_is_reached_ends_the_measuring() -> None:
    line = Line(latency_s=0.1, tokens_per_s=100, refuse_from=2)
    assert (await probe(line, model="m", price=Price(1, 1, 1), max_usd=1)).calls == 2
    with pytest.raises(RateLimited):
        await probe(Line(latency_s=0.1, tokens_per_s=1, refuse_from=0), model="m", price=Price(1, 1, 1), max_usd=1)


# -- the command


def test_it_prints_what_to_set_and_what_to_expect(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--rows", "100000", "--tpm", "20000"]) == 0

    said = capsys.readouterr().out
    for name in ("ARQ_MAX_JOBS", "BATCH_MAX_ITEMS", "LLM_RECORDS_PER_CALL", "LLM_MAX_CONCURRENCY", "ARQ_JOB_TIMEOUT"):
        assert re.search(rf"^{name}=\d+$", said, re.MULTILINE)
    assert "LLM_TPM=20000" in said
    assert "Mais workers não ajudam" in said
    assert "tokens por minuto do provedor" in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "diga a planilha (--sheet ARQUIVO) ou quantas linhas (--rows N)"),
        (["--rows", "x"], "--rows: esperado um número inteiro a partir de 1; encontrado 'x'"),
        (["--rows", "0"], "--rows: esperado um número inteiro a partir de 1; encontrado '0'"),
        (["--rows", "9", "--residual", "2"], "--residual: esperado um número de 0 a 1; encontrado '2'"),
        (["--rows", "9", "--rpm", "nan"], "--rpm: esperado um número a partir de 0; encontrado 'nan'"),
        (["--sheet", "nada.xlsx"], "--sheet: o arquivo 'nada.xlsx' não existe"),
        (["--rows", "9", "--bogus"], "opção desconhecida: --bogus"),
        (["--rows"], "--rows: falta o valor"),
        (["--rows", "9", "--endpoint", "http://127.0.0.1:1/v1"], "diga quanto com --max-usd"),
    ],
)
def test_a_bad_argument_gives_one_clear_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    said = capsys.readouterr().err
    assert left.value.code == 2
    assert said.count("\n") == 1
    assert said.startswith("Erro: ")
    assert sentence in said


def test_a_sheet_that_is_none_gives_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "foto.xlsx").write_bytes(b"\x89PNG not a sheet")
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.tune", "--sheet", str(tmp_path / "foto.xlsx")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        timeout=100,
    )
    assert ran.returncode == 1
    assert ran.stderr.startswith("Erro: ")
    assert "Traceback" not in ran.stderr
