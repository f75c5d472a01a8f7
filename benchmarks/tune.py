"""Settings for a workload and a provider's limits, found by short trials with real workers, told to an operator.

`python -m benchmarks.tune (--sheet FILE | --rows N) [--rpm N] [--tpm N] [--endpoint URL --max-usd X]` (see
docs/TUNING.md). Nothing is written, and nothing leaves the machine but what `--endpoint` asks.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final, Never

from benchmarks.fleet import hard_rows, mixed, run_once, write_labels
from normalizer.domain.address import parse_address
from normalizer.domain.appointment import Appointment, Kind
from normalizer.domain.text import canonical
from normalizer.domain.wording import many, number
from normalizer.errors import InvalidInput, NormalizerError, ProviderTooSlow, RateLimited
from normalizer.imports.plan import read_whole
from normalizer.llm.answer import RateLimitHeaders
from normalizer.llm.client import LlmClient, Usage
from normalizer.llm.packing import cost_of, prompt_tokens
from normalizer.llm.pricing import Price, price, prices_as_of
from normalizer.llm.prompt import Record
from normalizer.llm.tokens import counter
from normalizer.simulation import embedded
from normalizer.worker.pipeline import needs_model


@dataclass(frozen=True, slots=True)
class Workload:
    """So many rows of a kind.

    Attributes:
        rows: that come at once.
        residual: share of rows whose address only a model can read.
        known: share of those whose text stood in a row before: a patient's second appointment.
    """

    rows: int
    residual: float
    known: float

    @property
    def asked(self) -> float:
        """Records asked of the model, per row."""
        return self.residual * (1 - self.known)


def of_file(path: Path) -> Workload:
    """Read a sheet as an import reads it, and run the rules over every address. InvalidInput when none is usable."""
    sheet, plan = read_whole(path)
    sheet.close()
    texts = [Appointment(row.key, row.fields).text(Kind.ADDRESS) for row in plan.chosen_rows()]
    alike = Counter(canonical(text) for text in texts if text)
    shown = {canonical(text): text for text in texts if text}
    left = [identity for identity, text in shown.items() if needs_model(parse_address(text))]
    asked = sum(alike[identity] for identity in left)
    return Workload(len(texts), asked / len(texts), 1 - len(left) / asked if asked else 0.0)


_SIZES: Final = (5, 25, 50, 5, 25, 50)
_PATIENCE_S: Final = 120.0  # an endpoint that needs longer for a call would not be used


@dataclass(frozen=True, slots=True)
class Probed:
    """What an endpoint was found to be. Limits are as its headers say, 0 where they say nothing."""

    calls: int
    usd: float
    latency_s: float
    tokens_per_s: float
    rpm: int
    tpm: int
    answered: float
    """Share of the records that came back whole."""


async def probe(endpoint: LlmClient, *, model: str, price: Price, max_usd: float) -> Probed:
    """Ask up to six times. Before each call what it could cost at most is set against what is left.

    Raises InvalidInput where the money does not suffice for one call or none is answered in time; the client's other
    errors where the first call fails.
    """
    count = counter(model)
    timed: list[tuple[float, float]] = []
    spent_usd, calls, asked, whole, stated = 0.0, 0, 0, 0, RateLimitHeaders()
    for size, records in zip(_SIZES, _records(), strict=True):
        costs = [cost_of(record, count) for record in records]
        most_out = 2 * sum(cost.tokens_out for cost in costs) + 100
        most_in = 2 * (prompt_tokens(count) + sum(cost.tokens_in for cost in costs))
        if spent_usd + price.of(Usage(most_in, most_out)) > max_usd:
            break
        try:
            answer = await endpoint.complete(records, max_tokens_out=most_out, timeout_s=_PATIENCE_S)
        except (RateLimited, ProviderTooSlow) as problem:  # what was measured before says enough
            if calls:
                break
            if isinstance(problem, RateLimited):
                raise
            raise InvalidInput(
                where="--endpoint",
                expected=f"uma resposta sobre {size} endereços em {_PATIENCE_S:.0f} s",
                found="nenhuma",
                fix="Confira o endereço e o modelo, ou diga a velocidade com --latency-s e --tokens-per-s.",
            ) from None
        calls, asked = calls + 1, asked + size
        whole += sum(slot is not None for slot in answer.slots)
        spent_usd += price.of(answer.usage)
        timed.append((float(answer.usage.tokens_out), answer.seconds))
        stated = RateLimitHeaders.read(answer.headers)
    if not calls:
        raise InvalidInput(
            where="--max-usd",
            expected="dinheiro para ao menos uma chamada",
            found=f"US$ {max_usd:g}",
            fix="Aumente --max-usd.",
        )
    latency_s, tokens_per_s = _line(timed)
    return Probed(calls, spent_usd, latency_s, tokens_per_s, stated.limit_requests, stated.limit_tokens, whole / asked)


def _line(timed: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Seconds until the answer begins and tokens a second, by least squares; of one call, all its time is writing."""
    tokens, seconds = zip(*timed, strict=True)
    if len(set(tokens)) > 1:
        slope, begin = statistics.linear_regression(tokens, seconds)
        if slope > 0 and begin >= 0:
            return begin, 1 / slope
    return 0.0, sum(tokens) / max(1e-3, sum(seconds))


def _records() -> list[list[Record]]:
    rows = iter(hard_rows(sum(_SIZES)))
    return [[Record.of(next(rows).address or "") for _ in range(size)] for size in _SIZES]


#: A change must make a trial so much faster to be kept: less is this machine's noise.
WORTH: Final = 1.05
#: From so much of a core on, a worker's processor is what limits it.
BUSY: Final = 0.85
_MOST_JOBS, _MOST_RECORDS, _MOST_CALLS = 40, 50, 32
_TOKENS_OUT: Final = 40  # of one record, for the size of a trial alone
_FEWEST_ROWS, _MOST_ROWS = 300, 20_000


@dataclass(frozen=True, slots=True)
class Account:
    """The provider: limits a minute (0 = none), seconds until an answer begins, tokens a second (0 = at once)."""

    rpm: int = 500
    tpm: int = 200_000
    latency_s: float = 0.6
    tokens_per_s: float = 80.0

    @property
    def environment(self) -> dict[str, str]:
        return {"LLM_RPM": str(self.rpm), "LLM_TPM": str(self.tpm)}


@dataclass(frozen=True, slots=True)
class Setting:
    """What is tried. The defaults are the worker's own."""

    replicas: int = 1
    max_jobs: int = 10
    records_per_call: int = 25
    concurrency: int = 8

    @property
    def environment(self) -> dict[str, str]:
        return {
            "ARQ_MAX_JOBS": str(self.max_jobs),
            "LLM_RECORDS_PER_CALL": str(self.records_per_call),
            "LLM_MAX_CONCURRENCY": str(self.concurrency),
        }

    def neighbours(self, most_replicas: int) -> Iterator[Setting]:
        """One step up in each direction, the cheapest to have first."""
        if self.concurrency < _MOST_CALLS:
            yield replace(self, concurrency=2 * self.concurrency)
        if self.max_jobs < _MOST_JOBS:
            yield replace(self, max_jobs=2 * self.max_jobs)
        if self.records_per_call < _MOST_RECORDS:
            yield replace(self, records_per_call=_MOST_RECORDS)
        if self.replicas < most_replicas:
            yield replace(self, replicas=self.replicas + 1)


@dataclass(frozen=True, slots=True)
class Trial:
    """One run to the last row. `refused` are 429s of the provider; `worker_cpu_s` is that of all replicas."""

    setting: Setting
    account: Account
    rows: int
    seconds: float
    calls: int
    refused: int
    tokens_in: int
    tokens_out: int
    worker_cpu_s: float

    @property
    def admitted(self) -> dict[str, float]:
        """Rows a minute that the account admits at these calls and tokens a row, by limit.

        A trial is shorter than the minute in which a limit is counted, so it may end before the limit shows.
        """
        spent = {"rpm": self.calls, "tpm": self.tokens_in + self.tokens_out}
        limits = {"rpm": self.account.rpm, "tpm": self.account.tpm}
        return {name: limits[name] * self.rows / spent[name] for name in spent if limits[name] and spent[name]}

    @property
    def rows_per_min(self) -> float:
        """What a long sheet may expect: as fast as the trial, and no faster than the account admits."""
        return min([60 * self.rows / self.seconds, *self.admitted.values()])

    @property
    def limit(self) -> str:
        """The part that decides: `rpm`, `tpm`, `cpu`, or `waiting` for calls and groups under way."""
        name, most = min(self.admitted.items(), key=lambda item: item[1], default=("", math.inf))
        if most <= WORTH * 60 * self.rows / self.seconds:
            return name
        return "cpu" if self.worker_cpu_s >= BUSY * self.seconds * self.setting.replicas else "waiting"


@dataclass(slots=True)
class Climb:
    """The trials of one search, the best among them, and whether more replicas were seen to help.

    `most_trials` ends the search: each trial takes some seconds.
    """

    measure: Callable[[Setting], Trial]
    most_replicas: int
    most_trials: int
    tried: list[Trial] = field(default_factory=list)

    def run(self) -> Trial:
        """From the defaults, one step that is worth it after the other, until account or trials are used up."""
        best = self._try(Setting())
        while best.limit not in {"rpm", "tpm"} and (better := self._better(best)):
            best = better
        return best

    def _better(self, best: Trial) -> Trial | None:
        for setting in best.setting.neighbours(self.most_replicas):
            if len(self.tried) >= self.most_trials:
                return None
            if any(done.setting == setting for done in self.tried):
                continue
            trial = self._try(setting)
            if trial.rows_per_min >= WORTH * best.rows_per_min:
                return trial
        return None

    def _try(self, setting: Setting) -> Trial:
        self.tried.append(self.measure(setting))
        return self.tried[-1]


def rows_for(load: Workload, account: Account, seconds: float) -> int:
    """So many rows that the defaults have about `seconds` of model calls to make; never more than the sheet has."""
    at = Setting()
    writing_s = at.records_per_call * _TOKENS_OUT / account.tokens_per_s if account.tokens_per_s else 0.0
    asked = at.concurrency * at.records_per_call * seconds / max(0.1, account.latency_s + writing_s)
    rows = asked / load.asked if load.asked else _MOST_ROWS
    return min(load.rows, max(_FEWEST_ROWS, min(_MOST_ROWS, round(rows))))


def run(setting: Setting, load: Workload, account: Account, rows: int) -> Trial:
    """Let real workers of that setting do so many rows of that kind, on services of their own."""
    supplied = mixed(rows, residual=load.residual, known=load.known)
    with tempfile.TemporaryDirectory(prefix="normalizer-tune-") as name:
        place = Path(name)
        labels = write_labels(place / "labels.jsonl", [row for row in supplied if row.expected is not None])
        with embedded.start_provider(
            labels,
            directory=place / "provider",
            rpm=account.rpm,
            tpm=account.tpm,
            latency_ms=1_000 * account.latency_s,
            tokens_per_s=account.tokens_per_s,
        ) as provider:
            used = run_once(
                place,
                supplied,
                rows,
                replicas=setting.replicas,
                provider=provider,
                settings=setting.environment | account.environment,
            )
    calls, refused = int(used["calls"]), int(used["refused"])
    cpu_s = used["worker_cpu_us_per_row"] * rows / 1e6
    tokens = int(used["tokens_in"]), int(used["tokens_out"])
    return Trial(setting, account, rows, used["seconds"], calls - refused, refused, *tokens, cpu_s)


LIMITS: Final = {
    "rpm": "os pedidos por minuto do provedor (LLM_RPM); só um limite maior na conta ajuda",
    "tpm": "os tokens por minuto do provedor (LLM_TPM); só um limite maior na conta ajuda",
    "cpu": "a CPU dos workers; mais workers ou mais CPU ajudam",
    "waiting": "a espera pelas respostas da IA e pelas gravações; nenhum passo a mais valeu a pena",
}


def probed_line(found: Probed) -> str:
    return (
        f"Provedor medido em {_calls(found.calls)} (US$ {number(found.usd, 4)}): {number(found.latency_s, 2)} s até "
        f"começar, {number(found.tokens_per_s)} tokens/s, {_percent(found.answered)} dos registros respondidos."
    )


def load_line(load: Workload) -> str:
    return (
        f"Carga: {number(load.rows)} linhas; {_percent(load.residual, 1)} dos endereços só a IA lê, "
        f"{_percent(load.known)} deles repetidos."
    )


def trial_line(trial: Trial) -> str:
    at = trial.setting
    return (
        f"  {many(at.replicas, 'worker')}, ARQ_MAX_JOBS={at.max_jobs}, LLM_RECORDS_PER_CALL={at.records_per_call}, "
        f"LLM_MAX_CONCURRENCY={at.concurrency}: {number(trial.rows_per_min)} linhas/min "
        f"({number(trial.rows)} linhas em {number(trial.seconds, 1)} s, {_calls(trial.calls)}"
        f"{f', {number(trial.refused)} recusadas' if trial.refused else ''})"
    )


def advice_lines(load: Workload, best: Trial, tried: Sequence[Trial], *, model: str) -> Iterator[str]:
    """The environment to set, what to expect of it, and what is in the way of more."""
    yield ""
    yield f"# {many(best.setting.replicas, 'worker')} com:"
    yield from (f"{name}={value}" for name, value in environment_of(best).items())
    yield ""
    seconds = 60 * load.rows / best.rows_per_min
    yield f"Esperado: {number(best.rows_per_min)} linhas/min; a planilha em {_time(seconds)}."
    times = load.rows / best.rows
    usage = Usage(round(best.tokens_in * times), round(best.tokens_out * times))
    dear = "" if price(model).listed else "; modelo fora da tabela: vale o preço do mais caro"
    yield (
        f"IA: {_calls(best.calls * times)}, {number(usage.tokens_in + usage.tokens_out)} tokens, "
        f"US$ {number(price(model).of(usage), 4)} ({model}, preços de {prices_as_of()}{dear})."
    )
    yield f"O que limita: {LIMITS[best.limit]}."
    yield from _replicas_lines(best, tried)


def environment_of(best: Trial) -> dict[str, str]:
    """The variables to set, the account's limits among them."""
    return {**best.setting.environment, **best.account.environment}


def more_workers_help(best: Trial, tried: Sequence[Trial]) -> bool | None:
    """Whether one worker more would be worth having; None where it was not tried."""
    if best.limit in {"rpm", "tpm"}:
        return False
    more = _one_more(best.setting)
    return False if any(trial.setting == more for trial in tried) else None


def _one_more(at: Setting) -> Setting:
    return Setting(at.replicas + 1, at.max_jobs, at.records_per_call, at.concurrency)


def _replicas_lines(best: Trial, tried: Sequence[Trial]) -> Iterator[str]:
    if more_workers_help(best, tried) is None:
        yield "Com mais workers não foi testado: --max-replicas diz quantos você pode ter."
    else:
        yield "Mais workers não ajudam."
    if best.setting.replicas == 1:
        yield "Um basta para a vazão; tenha dois para que um deploy ou uma queda não pare nada."


def _time(seconds: float) -> str:
    return f"{number(seconds, 1)} s" if seconds < 120 else f"{number(seconds / 60, 1)} min"


def _percent(share: float, digits: int = 0) -> str:
    return f"{number(100 * share, digits)} %"


def _calls(count: float) -> str:
    return many(round(count), "chamada")


_REPLICAS: Final = 2
_TRIALS: Final = 12
_SECONDS: Final = 30.0
_SAID: Final = {
    "unrecognized arguments": "opção desconhecida",
    "expected one argument": "falta o valor",
    "one of the arguments --sheet --rows is required": "diga a planilha (--sheet ARQUIVO) ou quantas linhas (--rows N)",
    "not allowed with argument": "não pode vir junto com",
}


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, and nothing else."""

    def error(self, message: str) -> Never:
        for said, meant in _SAID.items():
            message = message.replace(said, meant)
        self.exit(2, f"Erro: {message.removeprefix('argument ')}.\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Try, print. 0 ok, 1 not possible, 2 usage."""
    given = _parsed(argv)
    try:
        return _run(given)
    except NormalizerError as problem:
        print(f"Erro: {problem}", file=sys.stderr)
        return 1


def _run(given: argparse.Namespace) -> int:
    tell = sys.stderr if given.json else sys.stdout
    found = asyncio.run(_probed(given)) if given.endpoint else None
    if found:
        print(probed_line(found), file=tell)
    account = _account(given, found)
    load = of_file(given.sheet) if given.sheet else Workload(given.rows, given.residual, given.known)
    print(load_line(load), file=tell, flush=True)
    rows = rows_for(load, account, given.seconds)

    def measure(setting: Setting) -> Trial:
        trial = run(setting, load, account, rows)
        print(trial_line(trial), file=sys.stderr, flush=True)
        return trial

    climb = Climb(measure, given.max_replicas, given.trials)
    best = climb.run()
    print("\n".join(advice_lines(load, best, climb.tried, model=given.model)), file=tell)
    if given.json:
        print(json.dumps(_document(load, best, climb.tried), ensure_ascii=False))
    return 0


def _document(load: Workload, best: Trial, tried: Sequence[Trial]) -> Mapping[str, object]:
    return {
        "carga": asdict(load),
        "workers": best.setting.replicas,
        "ambiente": environment_of(best),
        "linhas_por_min": round(best.rows_per_min),
        "limite": best.limit,
        "mais_workers_ajudam": more_workers_help(best, tried),
        "ensaios": [asdict(trial) for trial in tried],
    }


def _account(given: argparse.Namespace, found: Probed | None) -> Account:
    """What is said wins over what was measured, and that over what is usual."""
    usual, measured = Account(), found or Account()

    def of(name: str) -> float:
        said = getattr(given, name)
        return float(getattr(measured, name) or getattr(usual, name)) if said is None else float(said)

    return Account(round(of("rpm")), round(of("tpm")), of("latency_s"), of("tokens_per_s"))


async def _probed(given: argparse.Namespace) -> Probed:
    client = LlmClient(api_key=os.environ["OPENAI_API_KEY"], model=given.model, base_url=given.endpoint)
    try:
        return await probe(client, model=given.model, price=price(given.model), max_usd=given.max_usd)
    finally:
        await client.close()


# -- arguments


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _Parser(prog="benchmarks.tune", description="variáveis para uma carga e os limites de um provedor")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--sheet", type=_file, help="planilha, lida como numa importação")
    what.add_argument("--rows", type=_whole(1), help="ou quantas linhas ela teria")
    parser.add_argument("--residual", type=_share, default=0.15, help="parte dos endereços que só a IA lê")
    parser.add_argument("--known", type=_share, default=0.30, help="parte desses cujo texto já foi respondido")
    parser.add_argument("--model", default="gpt-6-luna")
    parser.add_argument("--rpm", type=_real(0), help="pedidos por minuto da conta (0: sem limite)")
    parser.add_argument("--tpm", type=_real(0), help="tokens por minuto da conta (0: sem limite)")
    parser.add_argument("--latency-s", type=_real(0), help="segundos até a resposta começar")
    parser.add_argument("--tokens-per-s", type=_real(1), help="velocidade da resposta")
    parser.add_argument("--endpoint", help="mede o provedor de verdade; a chave vem de OPENAI_API_KEY")
    parser.add_argument("--max-usd", type=_real(0), help="quanto a medição pode custar no máximo")
    parser.add_argument("--max-replicas", type=_whole(1), default=_REPLICAS, help="quantos workers você pode ter")
    parser.add_argument("--seconds", type=_real(1), default=_SECONDS, help="duração aproximada de um ensaio")
    parser.add_argument("--trials", type=_whole(1), default=_TRIALS, help="ensaios, no máximo")
    parser.add_argument("--json", action="store_true", help="um documento JSON na saída; o resto vai para stderr")
    given = parser.parse_args(argv)
    if given.endpoint and given.max_usd is None:
        parser.error("--endpoint gasta dinheiro de verdade: diga quanto com --max-usd")
    if given.endpoint and not os.environ.get("OPENAI_API_KEY"):
        parser.error("--endpoint precisa da chave em OPENAI_API_KEY")
    return given


def _file(text: str) -> Path:
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"o arquivo {text!r} não existe")
    return Path(text)


def _share(text: str) -> float:
    return _bounded(text, float, 0, 1, "um número de 0 a 1")


def _real(least: float) -> Callable[[str], float]:
    return lambda text: _bounded(text, float, least, 1e12, f"um número a partir de {least:g}")


def _whole(least: int) -> Callable[[str], int]:
    return lambda text: int(_bounded(text, int, least, 10**9, f"um número inteiro a partir de {least}"))


def _bounded(text: str, kind: Callable[[str], float], least: float, most: float, expected: str) -> float:
    try:
        value = kind(text)
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise argparse.ArgumentTypeError(f"esperado {expected}; encontrado {text!r}")
    return value


if __name__ == "__main__":
    sys.exit(main())
