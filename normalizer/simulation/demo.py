"""The embedded run: `make demo`. The main job end to end on real services, with a simulated model provider.

Everything it starts are child processes that die with it: at the end, on Ctrl-C, and when it is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import json
import signal
import tempfile
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from normalizer.domain.appointment import Kind, Origin, Status
from normalizer.domain.wording import number
from normalizer.errors import Misconfigured, TransientError
from normalizer.imports.importing import import_sheet
from normalizer.llm.tokens import counter
from normalizer.observability.masking import What, mask
from normalizer.queue.waiting import raise_if_cancelled
from normalizer.runtime import open_producer
from normalizer.settings import Settings, load_settings, settings_of
from normalizer.simulation import embedded
from normalizer.simulation.sheets import demo_scenario

if TYPE_CHECKING:
    from rich.console import Console

    from normalizer.imports.importing import ImportReport
    from normalizer.queue.service import TaskService
    from normalizer.store import AppointmentStore, StoredText


SIMULATED_MODEL = "simulated-model"
_STALLED_S = 120.0
_SAMPLES = 5
_REFRESH_S = 0.25
_STORE = "MongoDB embutido"


def run_demo(
    *,
    rows: int,
    keep: Path | None,
    live: bool,
    console: Console,
    then: Callable[[Settings, Summary], Awaitable[None]] | None = None,
) -> Summary:
    """Start everything, import, wait until every appointment has ended, stop everything.

    Args:
        rows: rows of the synthetic sheet.
        keep: folder that keeps sheet, databases and logs; None uses a temporary one.
        live: call the endpoint of the environment instead of the simulated provider.
        console: where progress is shown (stderr).
        then: awaited at the end, while everything still runs.

    Raises:
        Misconfigured: the demo extra is missing, or `live` without a key.
    """
    with _terminated_as_interrupt(), _workplace(keep) as directory, contextlib.ExitStack() as stack:
        console.print(f"[dim]Subindo Valkey, MongoDB embutido{'' if live else ', provedor simulado'}…[/dim]")
        sheet, labels = demo_scenario(directory, rows)
        redis = stack.enter_context(embedded.start_valkey(directory / "valkey"))
        mongo = stack.enter_context(embedded.start_mongo(directory / "mongo"))
        provider, model = None, _live_model() if live else {}
        if not live:
            speed = {"latency_ms": 300, "tokens_per_s": 200}
            provider = stack.enter_context(embedded.start_provider(labels, directory=directory / "provider", **speed))
            model = {"OPENAI_API_KEY": "simulated", "OPENAI_BASE_URL": provider.url, "OPENAI_MODEL": SIMULATED_MODEL}
        environment = {"REDIS_URL": redis.url, "MONGODB_URL": mongo.url, "DATABASE_NAME": "demo", **model}
        environment |= {"ENVIRONMENT": "production", "LOG_LEVEL": "INFO"}
        workers = [
            stack.enter_context(embedded.spawn_worker(environment, log=directory / f"worker-{number}.log"))
            for number in range(1, WORKERS + 1)
        ]
        parts: dict[str, Sequence[embedded.Child]] = {WORKERS_PART: workers, _STORE: [mongo], "Redis": [redis]}
        parts |= {"provedor simulado": [provider]} if provider else {}
        usage = functools.partial(_usage_of, provider, directory)
        return asyncio.run(_run(settings_of(environment), sheet, labels, parts, console, usage, then))


async def _run(
    settings: Settings,
    sheet: Path,
    labels: Path,
    parts: Mapping[str, Sequence[embedded.Child]],
    console: Console,
    usage: Callable[[], tuple[int, int, int]],
    then: Callable[[Settings, Summary], Awaitable[None]] | None,
) -> Summary:
    _interrupted_between_steps()
    workers = parts[WORKERS_PART]
    async with open_producer(settings) as producer:
        await _beating(producer.tasks, workers)
        before, started = _cpu_s(parts), time.monotonic()
        report = await import_sheet(sheet, store=producer.store, enqueue=producer.tasks.enqueue_many)
        await _wait(producer.store, report, workers, console)
        seconds = time.monotonic() - started
        spent = {name: round(after - before[name], 2) for name, after in _cpu_s(parts).items()}
        summary = await _summarize(producer.store, settings, report, labels, usage(), seconds, spent)
    if then is not None:
        await then(settings, summary)
    return summary


async def _beating(tasks: TaskService, workers: Sequence[embedded.Child]) -> None:
    """Wait until every worker is up: what a start takes is no row's."""
    while len((await tasks.status()).replicas) < len(workers):
        raise_if_cancelled()
        _all_running(workers)
        await asyncio.sleep(_REFRESH_S)


def _all_running(workers: Sequence[embedded.Child]) -> None:
    for worker in workers:
        if not worker.running:
            raise Misconfigured(f"Um worker terminou antes da hora:\n{worker.tail()}", fix="Veja o log acima.")


def _cpu_s(parts: Mapping[str, Sequence[embedded.Child]]) -> dict[str, float]:
    return {name: sum(child.cpu_s for child in children) for name, children in parts.items()}


async def _wait(
    store: AppointmentStore, report: ImportReport, workers: Sequence[embedded.Child], console: Console
) -> None:
    """Show progress until nothing is `pendente`; give up when nothing has moved for `_STALLED_S`."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task("normalizando", total=report.rows)
        moved, ended, counts = time.monotonic(), -1, Counter({Status.PENDING.value: report.rows})
        while True:
            raise_if_cancelled()
            with contextlib.suppress(TransientError):  # a store too busy to count is asked again
                counts = (await store.imports.progress(str(report.import_id))).by_status
            now_ended = sum(count for status, count in counts.items() if status != Status.PENDING)
            if now_ended != ended:
                moved, ended = time.monotonic(), now_ended
            bar.update(task, completed=ended, description=_description(counts))
            if not counts.get(Status.PENDING):
                return
            _all_running(workers)
            if time.monotonic() - moved > _STALLED_S:
                return
            await asyncio.sleep(_REFRESH_S)


def _description(counts: Mapping[str, int]) -> str:
    done, review, failed = (counts.get(status, 0) for status in (Status.DONE, Status.REVIEW, Status.FAILED))
    return f"[green]{done} concluídos[/green] · [yellow]{review} em revisão[/yellow] · [red]{failed} falhas[/red]"


async def _summarize(
    store: AppointmentStore,
    settings: Settings,
    report: ImportReport,
    labels: Path,
    usage: tuple[int, int, int],
    seconds: float,
    cpu_s: Mapping[str, float],
) -> Summary:
    model, usable, count = settings.openai_model, _usable_texts(labels), counter(settings.openai_model)
    summary = Summary(rows=report.rows, seconds=seconds, model=model, simulated=model == SIMULATED_MODEL, cpu_s=cpu_s)
    summary.llm_calls, summary.tokens_in, summary.tokens_out = usage
    counts = Counter[str]()
    answered: dict[tuple[Kind, str | None], list[StoredText]] = defaultdict(list)
    async for appointment in store.every():
        counts[appointment.status] += 1
        for kind, found in appointment.texts.items():
            if found.open_reason:
                summary.motivos[found.open_reason] += 1
            if found.value is not None:
                summary.por_origem[str(found.origin)] += 1
                answered[kind, found.origin].append(found)
            if found.text:
                summary.calls_one_per_field += 1
                expected = usable.get((kind, found.text))
                summary.tokens_one_per_field += _baseline_tokens(kind, found.text, expected, count)
        if all((kind, found.text) in usable for kind, found in appointment.texts.items()):
            summary.usable += 1
            summary.usable_concluido += appointment.status is Status.DONE
    summary.concluido, summary.revisar = counts[Status.DONE], counts[Status.REVIEW]
    summary.falhou, summary.pendente = counts[Status.FAILED], counts[Status.PENDING]
    summary.samples = _samples(answered)
    return summary


def _usage_of(provider: embedded.ProviderService | None, directory: Path) -> tuple[int, int, int]:
    """Calls, tokens in and out: of the simulated provider's own count, or of what workers logged of a live one."""
    if provider is not None:
        with urllib.request.urlopen(f"{provider.root_url}/stats", timeout=10) as answer:  # noqa: S310 — loopback
            stats = json.load(answer)
        return stats["requests"], stats["tokens_in"], stats["tokens_out"]
    lines = (line for log in directory.glob("worker-*.log") for line in log.read_text(encoding="utf-8").splitlines())
    calls = [json.loads(line) for line in lines if '"llm.batch.completed"' in line]
    return len(calls), sum(call["tokens_in"] for call in calls), sum(call["tokens_out"] for call in calls)


def _samples(answered: Mapping[tuple[Kind, str | None], Sequence[StoredText]]) -> list[tuple[str, str]]:
    """A few texts before → after, in turn of those that model and rules answered."""
    sources = [(Kind.ADDRESS, Origin.MODEL), (Kind.ADDRESS, Origin.RULES), (Kind.DOCUMENT, Origin.RULES)]
    chosen = [(kind, answered.get((kind, origin), [])[:_SAMPLES]) for kind, origin in sources]
    columns = [[_sample(kind, found) for found in texts] for kind, texts in chosen]
    in_turn = itertools.chain.from_iterable(itertools.zip_longest(*columns))
    return list(filter(None, in_turn))[:_SAMPLES]


def _sample(kind: Kind, found: StoredText) -> tuple[str, str]:
    """Before → after, documents masked."""
    value = found.value or {}
    if kind is Kind.ADDRESS:
        return found.text, ", ".join(filter(None, value.values()))
    after = ", ".join(f"{name.upper()} {mask(value[name], What.DOCUMENT)}" for name in ("cpf", "rg") if value.get(name))
    return mask(found.text, What.DOCUMENT), after


def _usable_texts(labels: Path) -> dict[tuple[str, str], Mapping[str, Any] | None]:
    """Texts whose label says that an answer can be had, with that answer."""
    rows = map(json.loads, labels.read_text(encoding="utf-8").splitlines())
    return {(row["kind"], row["text"]): row["expected"] for row in rows if row["usable"]}


def _live_model() -> dict[str, str]:
    """The endpoint of the environment, for the workers, who inherit nothing else of it."""
    settings = load_settings()
    if settings.openai_api_key is None:
        raise Misconfigured("--live precisa de OPENAI_API_KEY.", fix="Defina a chave ou rode sem --live.")
    model = {"OPENAI_API_KEY": settings.openai_api_key.get_secret_value(), "OPENAI_MODEL": settings.openai_model}
    return model | ({"OPENAI_BASE_URL": settings.base_url} if settings.base_url else {})


@contextlib.contextmanager
def _workplace(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        fix = "Escolha uma pasta nova para --keep."
        try:
            keep.mkdir(parents=True, exist_ok=True)
            occupied = any(keep.iterdir())
        except OSError:
            raise Misconfigured(f"Não é possível criar nem ler a pasta {keep}.", fix=fix) from None
        if occupied:
            raise Misconfigured(f"A pasta {keep} não está vazia.", fix=fix)
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="normalizer-demo-", ignore_cleanup_errors=True) as directory:
        yield Path(directory)


@contextlib.contextmanager
def _terminated_as_interrupt() -> Iterator[None]:
    """Let SIGTERM, and a terminal that closes, unwind the stack as Ctrl-C does: children stop in order.

    SIGINT is set too: a shell that starts us in the background leaves it ignored.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    if before[signal.SIGHUP] is signal.SIG_IGN:  # nohup
        del before[signal.SIGHUP]
    for one in before:
        signal.signal(one, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupted_between_steps() -> None:
    """Treat the other signals as asyncio treats Ctrl-C while its loop runs: the task is cancelled at its next step.

    An exception raised anywhere may hit a thread pool that is just starting a thread, which is then never told to end.
    """
    loop = asyncio.get_running_loop()
    for one in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(one) is signal.default_int_handler:
            loop.add_signal_handler(one, signal.raise_signal, signal.SIGINT)


# -- what came of it ---------------------------------------------------------------------------------------------------


WORKERS: Final = 2
WORKERS_PART: Final = "workers"  # as the summary calls what they take of the machine


@dataclass(slots=True, kw_only=True)
class Summary:
    """What came of the run; counts of appointments unless named otherwise.

    Attributes:
        cpu_s: processor seconds of each part while the rows were worked on, by name; empty where nobody counts them.
    """

    rows: int
    concluido: int = 0
    revisar: int = 0
    falhou: int = 0
    pendente: int = 0
    por_origem: Counter[str] = field(default_factory=Counter)
    motivos: Counter[str] = field(default_factory=Counter)
    llm_calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    calls_one_per_field: int = 0
    tokens_one_per_field: int = 0
    seconds: float
    usable: int = 0
    usable_concluido: int = 0
    model: str
    simulated: bool
    cpu_s: Mapping[str, float]
    samples: list[tuple[str, str]] = field(default_factory=list)

    @property
    def rows_per_second(self) -> float:
        """From the start of the import to the last appointment saved."""
        return self.rows / self.seconds if self.seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        told = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in {"samples", "simulated"}}
        told |= {"seconds": round(self.seconds, 2), "rows_per_second": round(self.rows_per_second, 1)}
        return told | {"provider": "simulated" if self.simulated else "live"}

    def show(self, console: Console) -> None:
        source = "modelo simulado" if self.simulated else f"modelo {self.model}"
        console.print(
            f"\n[bold]{number(self.rows)} agendamentos em {number(self.seconds, 1)} s[/bold] "
            f"({number(self.rows_per_second)} por segundo, {WORKERS} workers, {source})\n"
        )
        for line in self._spent():
            console.print(line)
        console.print(self._results())
        console.print(self._savings())
        if self.samples:
            console.print("\n[bold]Antes → depois[/bold]")
            for before, after in self.samples:
                console.print(f"  [dim]{escape(before)}[/dim]\n  → {escape(after)}", soft_wrap=True)

    def _spent(self) -> Iterator[str]:
        """The part that was busiest, beside what a row took of the workers themselves."""
        if not (worker_s := self.cpu_s.get(WORKERS_PART)):
            return
        name, most_s = max(self.cpu_s.items(), key=lambda part: part[1])
        share, us = most_s / self.seconds, 1e6 * worker_s / self.rows
        yield f"O que limitou: {name} ({share:.0%} de um núcleo)."
        yield f"Os workers gastaram {us:.0f} µs de CPU por linha: {number(round(1e6 / us))} linhas/s num núcleo.\n"

    def _results(self) -> Table:
        table = Table("", "agendamentos", title="Resultado", title_justify="left", min_width=60)
        table.columns[1].justify = "right"
        table.add_row("[green]concluídos[/green]", str(self.concluido))
        table.add_row("[yellow]em revisão[/yellow]", str(self.revisar))
        for reason, count in self.motivos.most_common():
            table.add_row(f"[dim]  {reason}[/dim]", f"[dim]{count}[/dim]")
        table.add_row("[red]falharam[/red]", str(self.falhou))
        if self.pendente:
            table.add_row("[red]pendentes[/red]", str(self.pendente))
        return table

    def _savings(self) -> Table:
        table = Table("", "aqui", "uma chamada por campo", title="Custo", title_justify="left", min_width=60)
        for column in table.columns[1:]:
            column.justify = "right"
        table.add_row("chamadas ao modelo", str(self.llm_calls), number(self.calls_one_per_field))
        here = self.tokens_in + self.tokens_out
        table.add_row("tokens", number(here), f"{number(self.tokens_one_per_field)} (calculados)")
        if here:
            table.add_row("", "", f"[bold]{number(self.tokens_one_per_field / here)}× mais[/bold]")
        origins = ", ".join(f"{name} {count}" for name, count in sorted(self.por_origem.items()))
        table.add_row("de onde vieram as respostas", origins, "")
        return table


# -- baseline of savings: the replaced worker's one call per field, long instructions, indented JSON back --------------


_INSTRUCTIONS = {
    "endereco": (
        "Você é um assistente especializado em normalização de endereços brasileiros. Receba o texto de um endereço "
        "e devolva somente um objeto JSON com os campos rua, numero, complemento, bairro, cidade, estado e cep. "
        "Escreva o tipo do logradouro por extenso, use a grafia correta com acentos, a sigla do estado com duas "
        "letras e o CEP no formato NNNNN-NNN. Use null para o que não estiver no texto e não invente informações."
    ),
    "documento": (
        "Você é um assistente especializado em documentos brasileiros. Receba o texto com os documentos de um "
        "paciente e devolva somente um objeto JSON com os campos cpf, rg, cpf_formatted e rg_formatted. O CPF tem 11 "
        "dígitos e precisa ter dígitos verificadores válidos; o RG tem de 7 a 9 caracteres. Use null para o que não "
        "estiver no texto e não invente informações."
    ),
}
_BASELINE_FIELDS = {
    "endereco": ("rua", "numero", "complemento", "bairro", "cidade", "estado", "cep"),
    "documento": ("cpf", "rg", "cpf_formatted", "rg_formatted"),
}
_MESSAGE_OVERHEAD_TOKENS = 4  # role and separators of one chat message, as in OpenAI's cookbook on counting tokens


def baseline_messages(kind: str, text: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": _INSTRUCTIONS[kind]}, {"role": "user", "content": text}]


def _baseline_tokens(kind: str, text: str, expected: Mapping[str, Any] | None, count: Callable[[str], int]) -> int:
    """Input and output tokens of one such call, whose answer is indented JSON with every field."""
    sent = sum(_MESSAGE_OVERHEAD_TOKENS + count(message["content"]) for message in baseline_messages(kind, text))
    values = {name: (expected or {}).get(name) for name in _BASELINE_FIELDS[kind]}
    return sent + count(orjson.dumps(values, option=orjson.OPT_INDENT_2).decode())
