"""The climb from setting to better setting, a live endpoint measured within a purse, and what an operator reads."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import tune
from benchmarks.tune import Account, Climb, Setting, Trial, Workload, main, of_file, probe, rows_for
from normalizer.errors import InvalidInput, ProviderTooSlow, RateLimited
from normalizer.llm.client import Answer, Usage
from normalizer.llm.pricing import Price
from normalizer.settings import settings_of
from normalizer.simulation.sheets import generate, write_sheet

ROOT = Path(__file__).resolve().parents[2]
LOAD = Workload(100_000, residual=0.2, known=0.1)
OPEN = Account(rpm=0, tpm=0)
DEFAULTS = Setting()


def trial(setting: Setting = DEFAULTS, account: Account = OPEN, *, rows_per_min: float = 6_000, **of: Any) -> Trial:
    """A run of 1,000 rows that took 10 calls and 10,000 tokens, and half of a core."""
    seconds = 60 * 1_000 / rows_per_min
    usual = {"calls": 10, "refused": 0, "tokens_in": 6_000, "tokens_out": 4_000, "worker_cpu_s": seconds / 2}
    return Trial(setting, account, 1_000, seconds, **(usual | of))


# -- a trial


def test_a_trial_promises_no_more_than_the_account_admits() -> None:
    assert trial(account=Account(rpm=20, tpm=0)).rows_per_min == 2_000
    assert trial(account=Account(rpm=0, tpm=30_000)).rows_per_min == 3_000
    assert trial(account=Account(rpm=500, tpm=200_000)).rows_per_min == 6_000
    assert trial(calls=0, tokens_in=0, tokens_out=0, account=Account()).rows_per_min == 6_000


def test_a_trial_says_what_limited_it() -> None:
    assert trial(account=Account(rpm=20, tpm=0)).limit == "rpm"
    assert trial(account=Account(rpm=20, tpm=10_000)).limit == "tpm"
    assert trial(worker_cpu_s=9.5).limit == "cpu"
    assert trial(Setting(replicas=2), worker_cpu_s=9.5).limit == "waiting"


def test_a_trial_has_as_many_rows_as_fill_its_time_and_no_more_than_the_sheet() -> None:
    slow, fast = (rows_for(LOAD, Account(tokens_per_s=speed), 15) for speed in (20, 80))
    assert 300 <= slow < fast <= 20_000
    assert rows_for(replace(LOAD, residual=0.0), Account(), 15) == 20_000
    assert rows_for(replace(LOAD, rows=120), Account(), 15) == 120


# -- the climb


def climbed(speed: Any, *, account: Account = OPEN, most_replicas: int = 2, most_trials: int = 12) -> Climb:
    return Climb(lambda at: trial(at, account, rows_per_min=speed(at)), most_replicas, most_trials)


def test_the_climb_takes_every_step_that_is_worth_it_and_no_other() -> None:
    climb = climbed(lambda at: 1_000 * min(at.concurrency, 32) * (1.02 if at.max_jobs > 10 else 1))
    assert climb.run().setting == Setting(concurrency=32)
    assert len({each.setting for each in climb.tried}) == len(climb.tried)


def test_the_climb_ends_where_the_account_is_used_up() -> None:
    climb = climbed(lambda at: 1_000 * at.concurrency, account=Account(rpm=20, tpm=0))
    assert climb.run().setting == Setting()
    assert len(climb.tried) == 1


def test_the_climb_asks_for_replicas_last_and_no_more_than_there_may_be() -> None:
    climb = climbed(lambda at: 1_000 * at.replicas, most_replicas=3)
    assert climb.run().setting == Setting(replicas=3)
    assert climb.tried[1].setting == Setting(concurrency=16)
    assert max(each.setting.replicas for each in climb.tried) == 3


def test_the_climb_ends_with_its_trials() -> None:
    climb = climbed(lambda at: 1_000 * at.concurrency * at.max_jobs, most_trials=3)
    assert climb.run().setting == Setting(concurrency=32)
    assert len(climb.tried) == 3


# -- what is said


def test_the_recommended_environment_is_one_the_worker_takes() -> None:
    best = trial(Setting(2, 20, 50, 16), Account(rpm=7, tpm=8_000))
    settings = settings_of(tune.environment_of(best))
    assert (settings.arq_max_jobs, settings.llm_records_per_call, settings.llm_max_concurrency) == (20, 50, 16)
    assert (settings.llm_rpm, settings.llm_tpm) == (7, 8_000)


def test_the_climb_begins_with_the_workers_own_defaults() -> None:
    own, usual = settings_of({}), Account()
    assert Setting() == Setting(1, own.arq_max_jobs, own.llm_records_per_call, own.llm_max_concurrency)
    assert (usual.rpm, usual.tpm) == (own.llm_rpm, own.llm_tpm)


def test_an_operator_reads_what_to_set_and_what_to_expect() -> None:
    best = trial(account=Account(rpm=0, tpm=30_000))
    said = "\n".join(tune.advice_lines(LOAD, best, [best], model="gpt-6-luna"))
    assert "ARQ_MAX_JOBS=10\nLLM_RECORDS_PER_CALL=25\nLLM_MAX_CONCURRENCY=8\nLLM_RPM=0\nLLM_TPM=30000\n" in said
    assert "Esperado: 3.000 linhas/min; a planilha em 33,3 min." in said
    assert "1.000 chamadas, 1.000.000 tokens" in said
    assert "tokens por minuto do provedor" in said
    assert "Mais workers não ajudam." in said


def test_nothing_is_said_of_more_workers_where_they_were_not_tried() -> None:
    best = trial()
    assert tune.more_workers_help(best, [best]) is None
    assert tune.more_workers_help(best, [best, trial(Setting(replicas=2))]) is False


def test_a_sheet_is_read_as_an_import_reads_it(tmp_path: Path) -> None:
    rows = [row for row, _ in zip(generate(5), range(300), strict=False)]
    write_sheet(tmp_path / "agenda.xlsx", rows)

    sheet = of_file(tmp_path / "agenda.xlsx")

    assert sheet.rows == 300
    assert 0 < sheet.residual < 0.2
    assert 0 <= sheet.known < 1


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


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "diga a planilha (--sheet ARQUIVO) ou quantas linhas (--rows N)"),
        (["--rows", "x"], "--rows: esperado um número inteiro a partir de 1; encontrado 'x'"),
        (["--rows", "0"], "--rows: esperado um número inteiro a partir de 1; encontrado '0'"),
        (["--rows", "9", "--residual", "2"], "--residual: esperado um número de 0 a 1; encontrado '2'"),
        (["--rows", "9", "--trials", "0"], "--trials: esperado um número inteiro a partir de 1; encontrado '0'"),
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
