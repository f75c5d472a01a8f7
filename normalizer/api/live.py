"""Live snapshot of the system, read every other second while somebody watches, once for all of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Self, TypeVar

import structlog
from fastapi import Header
from pydantic import BaseModel, ConfigDict, Field

from normalizer.api.access import Role, of_app
from normalizer.api.views import ImportView, Progress, progress_of, recent_imports
from normalizer.domain.appointment import Status
from normalizer.errors import NormalizerError
from normalizer.operations.status import Overview, read_overview
from normalizer.queue.waiting import cancel_and_wait
from normalizer.runtime import Backend
from normalizer.store import Attention

log = structlog.get_logger(__name__)

T = TypeVar("T")

_EVERY_S: Final = 2.0


class _View(BaseModel):
    model_config = ConfigDict(extra="allow")  # the earlier names


class WorkerView(_View):
    """One worker process, as it said at its last sign. Moments are Unix ms."""

    id: str = Field(examples=["servidor-1:77:abcdef"])
    maquina: str = Field(examples=["servidor-1"])
    pid: int
    versao: str
    estado: str = Field(description="running, paused ou stopping.", examples=["running"])
    iniciado_em_ms: int
    sinal_em_ms: int
    grupos: int = Field(description="Em andamento agora.")
    em_maos: int = Field(description="Agendamentos destes grupos.")
    ultima_retirada_em_ms: int | None
    ultimo_erro: str | None
    atraso_ms: int = Field(description="O maior atraso do processo desde o sinal anterior.")
    feitos: int
    falhas: int
    adiados: int
    filas: list[str]
    relogio_do_redis_ms: int = Field(description="Quanto o relógio do Redis está à frente.")


class GoneWorkerView(_View):
    """A worker that ended without saying so, until somebody dismisses it."""

    id: str = Field(examples=["servidor-1:77:abcdef"])
    maquina: str = Field(examples=["servidor-1"])
    sinal_em_ms: int = Field(description="O último sinal anotado.")
    devolvidos: int = Field(description="Jobs que tinha em mãos e voltaram à fila.")
    esperam: int | None = Field(description="Destes, os que ainda não terminaram; nulo se são demais para contar.")
    seguiram: int | None = Field(description="Destes, os que outros terminaram (ou tinham quando morreram também).")


class SpendingView(_View):
    """What the model used."""

    chamadas: int
    textos: int
    tokens_entrada: int
    tokens_saida: int
    usd: float


class CostView(_View):
    """What the model cost, and whether it can be asked."""

    modelo: str
    parada_por: str | None = Field(description="Por que nada se pergunta até que alguém aja ou o dia vire.")
    disjuntor: str = Field(
        description="closed: as chamadas passam; open: o provedor está fora do ar; half-open: tenta-se uma.",
        examples=["closed"],
    )
    em_pausa: bool = Field(description="O provedor pediu uma pausa, de `espera_s`.")
    espera_s: float
    pedido_do_provedor: str | None
    modo: str | None = Field(description="Como se pede a resposta, depois da primeira.")
    hoje: SpendingView = Field(description="Desde a meia-noite (UTC).")
    mes: SpendingView
    orcamento_diario_usd: float | None
    por_importacao: dict[str, SpendingView]


class StatusView(_View):
    """Everything at one moment. While MongoDB or Redis never answered, what they know is not there."""

    em: datetime
    problema: str | None = Field(description="Que serviço não responde; os números são então os últimos conhecidos.")
    estado: str | None = Field(default=None, description="running, paused ou draining.", examples=["running"])
    na_fila: int | None = None
    em_andamento: int | None = None
    adiados: int | None = None
    mais_antigo_s: float | None = None
    por_segundo: float | None = None
    previsao_s: float | None = None
    agendamentos: dict[str, int] = Field(default={}, description="Por status.")
    motivos: dict[str, dict[str, int]] = Field(default={}, description="Do que está em revisão, por texto.")
    falhas: dict[str, int] = Field(default={}, description="Por causa.")
    base_de_ceps: dict[str, int] = {}
    ia: CostView | None = None
    eventos_nao_entregues: int | None = None
    filas_sem_worker: dict[str, int] = Field(default={}, description="Jobs por nome de fila que ninguém serve.")
    problemas_da_fila: list[str] = []
    workers: list[WorkerView] = []
    workers_mortos: list[GoneWorkerView] = []
    concluidos_hoje: int
    a_conferir: dict[str, int] = Field(description="Resolvidos que pedem um olhar.")
    progresso: Progress
    importacoes: list[ImportView]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything the page shows of the system at one moment; `trouble` says what did not answer.

    Attributes:
        overview: None until both services answered once.
        progress: of all appointments.
        imports: those of the last 30 days, newest first.
        concluded_today: since midnight in Brasília.
        attention: how many are settled and yet to be looked at.
    """

    at: datetime
    overview: Overview | None
    progress: Progress
    imports: Sequence[ImportView]
    concluded_today: int
    attention: Mapping[Attention, int] = field(default_factory=dict)
    trouble: str | None = None

    @property
    def id(self) -> str:
        """What a client that reconnects says it saw last."""
        return f"{self.at.timestamp():.3f}"

    @property
    def is_well(self) -> bool:
        """Whether nothing is left to do, for anybody: all services answer, a worker is alive, nothing waits."""
        if self.trouble or self.overview is None or not self.overview.queue.replicas:
            return False
        queue, left = self.overview.queue, self.progress
        waits = queue.due or queue.deferred or queue.running or self.overview.untold
        return not (waits or left.pendente or left.revisar or left.falhou)

    def seen_by(self, role: Role) -> Self:
        """What a role is shown of it."""
        return self if role >= Role.OPERATOR else replace(self, imports=[one.for_reader() for one in self.imports])

    def as_dict(self) -> dict[str, Any]:
        """For the API's events."""
        status = self.overview.as_dict() if self.overview else {}
        return {
            "em": self.at.isoformat(),
            "problema": self.trouble,
            **status,
            "concluidos_hoje": self.concluded_today,
            "a_conferir": {name.value: number for name, number in self.attention.items()},
            "progresso": self.progress.model_dump(),
            "importacoes": [one.model_dump(mode="json") for one in self.imports],
        }


class Live:
    """Reads snapshots while there are watchers.

    Args:
        backend: what is read.
        every_s: between two readings; never more than a fifth of the time is spent reading.
    """

    def __init__(self, backend: Backend, *, every_s: float = _EVERY_S) -> None:
        self._backend, self._every_s = backend, every_s
        self._last: Snapshot | None = None
        self._number = 0
        self._made_of: Snapshot | None = None
        self._made: dict[Hashable, Any] = {}
        self._changed = asyncio.Condition()
        self._watchers = 0
        self._task: asyncio.Task[None] | None = None
        self._reading = asyncio.Lock()

    async def now(self, *, not_older_s: float = _EVERY_S) -> Snapshot:
        """A snapshot, read now unless the last one is fresh."""
        async with self._reading:
            if self._last is None or datetime.now(UTC) - self._last.at > timedelta(seconds=not_older_s):
                self._last = await self._read(self._last)
            return self._last

    async def watch(self) -> AsyncIterator[Snapshot]:
        """A snapshot at once, then each new one, until the caller has enough."""
        self._watchers += 1
        try:
            yield await self.now()
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._keep_reading())
            while True:
                seen = self._number
                async with self._changed:
                    await self._changed.wait_for(lambda seen=seen: self._number != seen)  # type: ignore[misc]
                if self._last is not None:
                    yield self._last
        finally:
            self._watchers -= 1

    def once(self, snapshot: Snapshot, key: Hashable, make: Callable[[Snapshot], T]) -> T:
        """What `make` makes of a snapshot; made once for all watchers who are shown the same."""
        if self._made_of is not snapshot:
            self._made_of, self._made = snapshot, {}
        if key not in self._made:
            self._made[key] = make(snapshot)
        made: T = self._made[key]
        return made

    async def close(self) -> None:
        """Stop reading."""
        if self._task is not None:
            await cancel_and_wait(self._task)

    async def _keep_reading(self) -> None:
        while self._watchers:
            began = time.monotonic()
            try:
                await self.now(not_older_s=0.0)
            except Exception as error:  # noqa: BLE001 — the next reading may succeed, and watchers must not hang
                log.warning("api.live.failed", error=type(error).__name__)
            async with self._changed:
                self._number += 1
                self._changed.notify_all()
            await asyncio.sleep(max(self._every_s, 4 * (time.monotonic() - began)))

    async def _read(self, before: Snapshot | None) -> Snapshot:
        """What answers is shown as it is now; what does not, as it was last, and that it does not answer."""
        snapshot = replace(before or Snapshot(datetime.now(UTC), None, Progress(), (), 0), at=datetime.now(UTC))
        trouble = []
        for part in (self._store_part, self._queue_part):
            try:
                snapshot = await part(snapshot)
            except NormalizerError as error:
                trouble.append(str(error))
        return replace(snapshot, trouble=" ".join(dict.fromkeys(trouble)) or None)

    async def _store_part(self, snapshot: Snapshot) -> Snapshot:
        store = self._backend.store
        return replace(
            snapshot,
            imports=await recent_imports(store),
            concluded_today=await store.totals.concluded_today(),
            attention=await store.totals.attention(),
        )

    async def _queue_part(self, snapshot: Snapshot) -> Snapshot:
        backend = self._backend
        overview = await read_overview(backend.store, backend.tasks, before=snapshot.overview, lane=backend.read_lane)
        counted = await backend.store.totals.progress(overview.counts)
        return replace(snapshot, overview=overview, progress=progress_of(counted))


def failures(overview: Overview | None) -> list[tuple[str, str, int]]:
    """What failed or waits for a person, by cause: (status, cause, how many), the most frequent first."""
    if overview is None:
        return []
    counts = overview.counts
    rows = [(Status.FAILED.value, cause, number) for cause, number in counts.by_error.items()]
    for reasons in counts.by_reason.values():
        rows += [(Status.REVIEW.value, cause, number) for cause, number in reasons.items()]
    return sorted(rows, key=lambda row: -row[2])


#: Parameter types of path operations: what is served, its one reader of snapshots, and where an event stream goes on.
TheBackend = Annotated[Backend, of_app("backend")]
TheLive = Annotated[Live, of_app("live")]
LastEventId = Annotated[str | None, Header(alias="Last-Event-ID", max_length=40)]
