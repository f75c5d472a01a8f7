"""`normalizer doctor`: looks at everything the worker depends on and says, in one line each, how to mend it.

It changes nothing but what the workers know of how the endpoint is asked. Its one paid call to the model carries a
made-up address.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from normalizer.errors import Misconfigured, TransientError
from normalizer.llm.client import CapabilityStore
from normalizer.llm.pricing import Ledger
from normalizer.operations.doctor import checks, privacy
from normalizer.operations.doctor.checks import Finding, Level, Report, good, warning
from normalizer.queue.replicas import GONE_S
from normalizer.queue.service import QueueStatus, TaskService
from normalizer.runtime import lane_name, read_lane, task_service
from normalizer.settings import Settings, load_settings
from normalizer.store import AppointmentStore

__all__ = ["Finding", "Level", "Report", "examine"]

_MAX_SKEW_MS = 1_000
#: As they are shown.
_SETTINGS, _REDIS, _WORKERS, _MONGODB = "Configuração", "Redis", "Workers", "MongoDB"
_MODEL, _EVENTS, _LGPD = "IA", "Eventos", "LGPD"
_AREAS = (_SETTINGS, _REDIS, _WORKERS, _MONGODB, _MODEL, _EVENTS, _LGPD)
_Found: TypeAlias = dict[str, list[Finding]]


async def examine(
    *, lgpd: bool = False, offline: bool = False, logs: Sequence[Path] = (), environment: Mapping[str, str] = os.environ
) -> Report:
    """Look at settings, Redis, replicas, MongoDB and the model; with `lgpd` at where personal data are, too.

    Args:
        lgpd: also what is stored where, encrypted or not, and whether queue and logs are clean.
        offline: make no call to the model.
        logs: log files to search for personal data.
        environment: where the names that are set come from; values are read by `load_settings`.
    """
    try:
        settings = load_settings()
    except Misconfigured as error:
        return Report({_SETTINGS: [checks.unreachable(error)]})
    found: _Found = {area: [] for area in _AREAS}
    found[_SETTINGS] += checks.check(settings, checks.given_names(environment))
    await _queue(settings, found, lgpd=lgpd)
    await _store(settings, found, lgpd=lgpd)
    found[_MODEL] += await _model(settings, ask=not offline)
    found[_EVENTS] += [] if offline else await checks.check_receiver(settings)
    found[_LGPD] += privacy.check_settings(settings) if lgpd else []
    found[_LGPD] += privacy.check_logs(logs) if lgpd or logs else []
    return Report(found)


async def _model(settings: Settings, *, ask: bool) -> list[Finding]:
    """The endpoint is asked afresh, for endpoints learn; the workers are told what came out."""
    try:
        async with task_service(settings, attempts=1) as tasks:
            redis = await tasks.get_pool()
            memory = CapabilityStore(redis, lane_name(settings))
            ledger = Ledger(redis, model=settings.openai_model, daily_budget_usd=settings.daily_budget_usd)
            return await checks.check_model(settings, ask=ask, memory=memory, ledger=ledger)
    except (Misconfigured, TransientError):  # without Redis, which `_queue` speaks of
        return await checks.check_model(settings, ask=ask)


async def _queue(settings: Settings, found: _Found, *, lgpd: bool) -> None:
    try:
        async with task_service(settings, attempts=1) as tasks:
            redis = await tasks.get_pool()
            if problem := await tasks.server_problem():
                raise problem
            checked, workers = await checks.check_redis(redis), await _workers(tasks)
            lane = checks.check_lane(await read_lane(settings, tasks))
            found[_LGPD] += await privacy.check_redis(redis, tasks.queue_name) if lgpd else []
    except (Misconfigured, TransientError) as error:
        found[_REDIS].append(checks.unreachable(error))
    else:
        found[_REDIS], found[_WORKERS], found[_MODEL] = checked, workers, lane


async def _workers(tasks: TaskService) -> list[Finding]:
    status = await tasks.status()
    found = [Finding(Level.SETTING, problem, "Veja também: normalizer status") for problem in status.problems]
    if status.state != "running":
        found.insert(0, warning("a fila está parada por um operador.", "Retome com: normalizer resume"))
    for name, jobs in (await _unserved(tasks, status)).items():
        fix = "Acrescente o nome a ARQ_QUEUE_NAMES dos workers e reinicie-os."
        found.append(warning(f"{jobs} jobs na fila {name}, que ninguém lê.", fix))
    if not status.replicas:
        fix = "Inicie um worker (python workers.py) e veja o log dele."
        return [*found, warning(f"nenhum worker deu sinal nos últimos {GONE_S:.0f} s.", fix)]
    versions = sorted({replica.version for replica in status.replicas})
    if len(versions) > 1:
        fix = "Espere o deploy terminar ou reinicie a mais antiga."
        found.append(warning(f"versões diferentes em serviço: {', '.join(versions)}.", fix))
    found += [
        warning(f"{replica.worker_id}: último erro {replica.last_error}.", "Procure o erro no log desse worker.")
        for replica in status.replicas
        if replica.last_error
    ]
    for replica in status.replicas:
        if abs(replica.redis_ahead_ms) > _MAX_SKEW_MS:
            what = f"{replica.worker_id}: relógio {replica.redis_ahead_ms / 1000:+.0f} s do Redis."
            found.append(warning(what, "Acerte a hora (NTP) dessa máquina."))
    return [*found, good(f"{len(status.replicas)} em serviço, versão {versions[-1]}")]


async def _unserved(tasks: TaskService, status: QueueStatus) -> dict[str, int]:
    """Jobs by queue name that nobody serves: known ones, and whatever a walk through the keys finds."""
    served = {name for replica in status.replicas for name in replica.queues}
    found = {**await tasks.other_queues(), **status.unserved}
    return {name: jobs for name, jobs in sorted(found.items()) if name not in served}


async def _store(settings: Settings, found: _Found, *, lgpd: bool) -> None:
    try:
        async with AppointmentStore.connect(settings.mongodb_url.get_secret_value(), settings.database_name) as store:
            diagnosis = await store.diagnose()
            found[_MONGODB] = list(checks.check_mongodb(diagnosis))
            found[_LGPD] += privacy.check_expiry(diagnosis.never_expiring) if lgpd else []
            found[_EVENTS] = await checks.check_untold(store)
    except (Misconfigured, TransientError) as error:
        found[_MONGODB] = found[_MONGODB] or [checks.unreachable(error)]
