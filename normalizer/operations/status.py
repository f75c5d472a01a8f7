"""Status and health of a running system: `normalizer status` and `normalizer health`."""

from __future__ import annotations

import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from normalizer.domain.address.postal import Verdict
from normalizer.domain.appointment import Status
from normalizer.domain.wording import duration, many, number
from normalizer.queue.replicas import GONE_S, GoneReplica, Replica

if TYPE_CHECKING:
    from rich.console import Console

    from normalizer.llm.pricing import ModelStatus
    from normalizer.queue.service import QueueStatus, TaskService
    from normalizer.store import AppointmentStore, Counts

_LONGEST_LAG_MS = 10_000
_STATES = {"running": "em andamento", "paused": "pausada", "draining": "esvaziando"}
_WORKER_FIELDS = {
    "worker_id": "id",
    "host": "maquina",
    "version": "versao",
    "state": "estado",
    "started_at_ms": "iniciado_em_ms",
    "beat_at_ms": "sinal_em_ms",
    "groups": "grupos",
    "jobs": "em_maos",
    "last_claim_at_ms": "ultima_retirada_em_ms",
    "last_error": "ultimo_erro",
    "loop_lag_ms": "atraso_ms",
    "complete": "feitos",
    "failed": "falhas",
    "retried": "adiados",
    "queues": "filas",
    "redis_ahead_ms": "relogio_do_redis_ms",
}
_WORKER_STATES = {"running": "em andamento", "paused": "pausado", "stopping": "parando"}


@dataclass(frozen=True, slots=True)
class Overview:
    """Queue, replicas and appointments at one moment.

    Attributes:
        at_s: Unix time of the reading.
        ended: appointments that are not `pendente`.
        rate_per_s: appointments ended per second since the reading before; None at the first.
        lane: the model lane; None where nobody asked about it.
        untold: events that no receiver took within a day.
        evidence: what a postal base said of the addresses concluded so far; empty where none was asked.
        eta_s: seconds until nothing is `pendente` at that rate; None where it cannot be told.
    """

    at_s: float
    queue: QueueStatus
    counts: Counts
    rate_per_s: float | None
    lane: ModelStatus | None = None
    untold: int = 0
    evidence: Mapping[str, int] = field(default_factory=dict)

    @property
    def ended(self) -> int:
        """Appointments that came to an end, whichever."""
        return self.counts.total - self.pending

    @property
    def pending(self) -> int:
        """Appointments that wait or are in work."""
        return self.counts.by_status[Status.PENDING]

    @property
    def eta_s(self) -> float | None:
        """None where nothing moves or nothing waits."""
        return self.pending / self.rate_per_s if self.rate_per_s and self.pending else None

    def as_dict(self) -> dict[str, Any]:
        """The JSON document of `status --json`."""
        return {
            "estado": self.queue.state,
            "na_fila": self.queue.due,
            "em_andamento": self.queue.running,
            "adiados": self.queue.deferred,
            "mais_antigo_s": self.queue.oldest_age_s,
            "por_segundo": self.rate_per_s,
            "previsao_s": self.eta_s,
            "agendamentos": dict(self.counts.by_status),
            "motivos": {kind.value: dict(reasons) for kind, reasons in self.counts.by_reason.items()},
            "falhas": dict(self.counts.by_error),
            "base_de_ceps": dict(self.evidence),
            "ia": None if self.lane is None else self.lane.as_dict(),
            "eventos_nao_entregues": self.untold,
            "filas_sem_worker": dict(self.queue.unserved),
            "problemas_da_fila": list(self.queue.problems),
            "workers": [worker_fields(replica) for replica in self.queue.replicas],
            "workers_mortos": [_gone_fields(one) for one in self.queue.gone],
        }

    def show(self, console: Console) -> None:
        """The same for people."""
        queue = self.queue
        oldest = "" if queue.oldest_age_s is None else f", o mais antigo há {duration(queue.oldest_age_s)}"
        console.print(
            f"[bold]Fila[/bold] {_STATES[queue.state]}: {number(queue.due)} na fila{oldest}, "
            f"{number(queue.running)} em andamento, {number(queue.deferred)} adiados"
        )
        for line in (*queue.problems, *map(_unserved_line, queue.unserved.items())):
            console.print(f"[yellow]Aviso:[/yellow] {escape(line)}")
        if self.rate_per_s is not None:
            eta = "" if self.eta_s is None else f", faltam cerca de {duration(self.eta_s)}"
            console.print(f"{number(self.rate_per_s)} por segundo{eta}")
        for line in self.lane.lines() if self.lane is not None else ():
            console.print(line, markup=False)
        if self.untold:
            console.print(f"{many(self.untold, 'evento')} sem entrega: normalizer events")
        if self.evidence:
            console.print(_evidence_line(self.evidence))
        console.print(_counts_table(self.counts))
        console.print(_replicas_table(queue.replicas))


async def read_overview(
    store: AppointmentStore,
    tasks: TaskService,
    *,
    before: Overview | None = None,
    lane: Callable[[TaskService], Awaitable[ModelStatus | None]] | None = None,
) -> Overview:
    """Read both services once. `before` is the last reading, for the rate; `lane` reads how the model lane stands.

    Raises StoreUnavailable or QueueUnavailable.
    """
    queue, counts, now = await tasks.status(), await store.totals.counts(), time.time()
    model_status = None if lane is None else await lane(tasks)
    first = Overview(
        now, queue, counts, None, model_status, await store.outbox().count_failed(), await store.totals.evidence()
    )
    if before is None:
        return first
    rate = (first.ended - before.ended) / max(0.001, now - before.at_s)
    return replace(first, rate_per_s=max(0.0, rate))


def worker_fields(replica: Replica) -> dict[str, Any]:
    """A worker for JSON, under its names, and for one release under the English ones."""
    said = asdict(replica)
    return said | {name: said[earlier] for earlier, name in _WORKER_FIELDS.items()}


def _gone_fields(one: GoneReplica) -> dict[str, Any]:
    said = {"id": one.worker_id, "maquina": one.host, "sinal_em_ms": one.beat_at_ms}
    jobs = {"devolvidos": one.put_back, "esperam": one.waiting, "seguiram": one.ended}
    return {"worker_id": one.worker_id, "beat_at_ms": one.beat_at_ms} | said | jobs


async def own_replica_problem(tasks: TaskService) -> str | None:
    """Why this machine's own worker is not well; None if it beats and its loop answers.

    A container's host name is its own, so one container's health never speaks for another's worker.
    """
    problem = await tasks.server_problem()
    if problem is not None:
        return str(problem)
    host, now_ms = socket.gethostname(), time.time() * 1000
    own = [replica for replica in (await tasks.status()).replicas if replica.host == host]
    if not own:
        return f"Nenhum worker deste contêiner ({host}) deu sinal nos últimos {GONE_S:.0f} s. Veja o log do worker."
    newest = max(own, key=lambda replica: replica.beat_at_ms)
    if now_ms - newest.beat_at_ms > GONE_S * 1000:
        return f"O worker não dá sinal há {(now_ms - newest.beat_at_ms) / 1000:.0f} s. Veja o log do worker."
    if newest.loop_lag_ms > _LONGEST_LAG_MS:
        return f"O worker responde com {newest.loop_lag_ms / 1000:.0f} s de atraso. Reinicie-o e veja o log."
    return None


def _unserved_line(item: tuple[str, int]) -> str:
    name, jobs = item
    return f"{jobs} jobs esperam na fila {name}, que nenhum worker serve. Acrescente o nome a ARQ_QUEUE_NAMES."


def _evidence_line(evidence: Mapping[str, int]) -> str:
    confirmed, against = (evidence.get(verdict.value, 0) for verdict in (Verdict.CONFIRMED, Verdict.CONFLICT))
    share = confirmed / max(1, sum(evidence.values()))
    return f"Base de CEPs: {share:.0%} dos endereços confirmados, {number(against)} em conflito"


def _counts_table(counts: Counts) -> Table:
    table = Table("agendamentos", "", min_width=50)
    table.columns[1].justify = "right"
    for status in Status:
        table.add_row(status.value, str(counts.by_status[status]))
        if status is Status.REVIEW:
            for kind, reasons in counts.by_reason.items():
                _add_causes(table, reasons, f"{kind.value}: ")
        if status is Status.FAILED:
            _add_causes(table, counts.by_error, "")
    return table


def _add_causes(table: Table, causes: Mapping[str, int], prefix: str) -> None:
    for cause, count in sorted(causes.items(), key=lambda item: -item[1]):
        table.add_row(f"[dim]  {prefix}{cause}[/dim]", f"[dim]{count}[/dim]")


def _replicas_table(replicas: Sequence[Replica]) -> Table:
    table = Table("worker", "versão", "estado", "grupos", "jobs", "último erro", min_width=50)
    for replica in replicas:
        table.add_row(
            replica.worker_id,
            replica.version,
            _WORKER_STATES.get(replica.state, replica.state),
            str(replica.groups),
            str(replica.jobs),
            replica.last_error or "",
        )
    return table
