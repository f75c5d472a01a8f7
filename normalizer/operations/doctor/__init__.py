"""`normalizer doctor`: looks at everything the worker depends on and says, in one line each, how to mend it.

It changes nothing but what the workers know of how the endpoint is asked. Its one paid call to the model carries a
made-up address.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from normalizer.errors import Misconfigured, TransientError
from normalizer.llm.client import CapabilityStore
from normalizer.llm.pricing import Ledger
from normalizer.operations.doctor import checks, privacy
from normalizer.operations.doctor.checks import Finding, Level, Report
from normalizer.queue.replicas import GONE_S
from normalizer.queue.service import QueueStatus, TaskService
from normalizer.runtime import lane_name, read_lane, task_service
from normalizer.settings import Settings, load_settings
from normalizer.store import AppointmentStore

__all__ = ["Finding", "Level", "Report", "examine"]

_WORKERS = "Workers"
_MAX_SKEW_MS = 1_000


async def examine(
    *,
    lgpd: bool = False,
    offline: bool = False,
    logs: Sequence[Path] = (),
    environment: Mapping[str, str] = os.environ,
) -> Report:
    """Look at settings, Redis, replicas, MongoDB and the model; with `lgpd` at where personal data are, too.

    Args:
        lgpd: also what is stored where, encrypted or not, and whether queue and logs are clean.
        offline: make no call to the checks.
        logs: log files to search for personal data.
        environment: where the names that are set come from; values are read by `load_settings`.
    """
    try:
        settings = load_settings()
    except Misconfigured as error:
        return Report([Finding(checks.SETTINGS, Level.SETTING, error.problem, error.fix)])
    findings = checks.check(settings, checks.given_names(environment))
    findings += await _queue(settings, lgpd=lgpd)
    findings += await _store(settings, lgpd=lgpd)
    findings += await _model(settings, ask=not offline)
    findings += [] if offline else await checks.check_receiver(settings)
    if lgpd or logs:
        findings += privacy.check_settings(settings) if lgpd else []
        findings += privacy.check_logs(logs)
    return Report(sorted(findings, key=lambda finding: _ORDER.index(finding.area)))


_ORDER = (checks.SETTINGS, checks.REDIS, _WORKERS, checks.MONGODB, checks.MODEL, checks.EVENTS, checks.LGPD)


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


async def _queue(settings: Settings, *, lgpd: bool) -> list[Finding]:
    try:
        async with task_service(settings, attempts=1) as tasks:
            redis = await tasks.get_pool()
            if problem := await tasks.server_problem():
                return [checks.unreachable(checks.REDIS, problem)]
            findings = [*await checks.check_redis(redis), *await _workers(tasks)]
            findings += checks.check_lane(await read_lane(settings, tasks))
            if lgpd:
                findings += await privacy.check_redis(redis, tasks.queue_name)
            return findings
    except (Misconfigured, TransientError) as error:
        return [checks.unreachable(checks.REDIS, error)]


async def _workers(tasks: TaskService) -> list[Finding]:
    status = await tasks.status()
    findings = []
    if status.state != "running":
        fix = "Retome com: normalizer resume"
        findings.append(Finding(_WORKERS, Level.WARNING, "a fila está parada por um operador.", fix))
    findings += [
        Finding(_WORKERS, Level.SETTING, problem, "Veja também: normalizer status") for problem in status.problems
    ]
    for name, jobs in (await _unserved(tasks, status)).items():
        fix = "Acrescente o nome a ARQ_QUEUE_NAMES dos workers e reinicie-os."
        findings.append(Finding(_WORKERS, Level.WARNING, f"{jobs} jobs na fila {name}, que ninguém lê.", fix))
    if not status.replicas:
        fix = "Inicie um worker (python workers.py) e veja o log dele."
        return [
            *findings,
            Finding(_WORKERS, Level.WARNING, f"nenhum worker deu sinal nos últimos {GONE_S:.0f} s.", fix),
        ]
    versions = sorted({replica.version for replica in status.replicas})
    if len(versions) > 1:
        found = f"versões diferentes em serviço: {', '.join(versions)}."
        findings.append(Finding(_WORKERS, Level.WARNING, found, "Espere o deploy terminar ou reinicie a mais antiga."))
    for replica in status.replicas:
        if replica.last_error:
            found = f"{replica.worker_id}: último erro {replica.last_error}."
            findings.append(Finding(_WORKERS, Level.WARNING, found, "Procure o erro no log desse worker."))
    for replica in status.replicas:
        if abs(replica.redis_ahead_ms) > _MAX_SKEW_MS:
            found = f"{replica.worker_id}: relógio {replica.redis_ahead_ms / 1000:+.0f} s do Redis."
            findings.append(Finding(_WORKERS, Level.WARNING, found, "Acerte a hora (NTP) dessa máquina."))
    findings.append(Finding(_WORKERS, Level.OK, f"{len(status.replicas)} em serviço, versão {versions[-1]}"))
    return findings


async def _unserved(tasks: TaskService, status: QueueStatus) -> dict[str, int]:
    """Jobs by queue name that nobody serves: known ones, and whatever a walk through the keys finds."""
    served = {name for replica in status.replicas for name in replica.queues}
    found = {**await tasks.other_queues(), **status.unserved}
    return {name: jobs for name, jobs in sorted(found.items()) if name not in served}


async def _store(settings: Settings, *, lgpd: bool) -> list[Finding]:
    try:
        store = AppointmentStore.connect(settings.mongodb_url.get_secret_value(), settings.database_name)
    except Misconfigured as error:
        return [checks.unreachable(checks.MONGODB, error)]
    async with store:
        findings = await checks.check_mongodb(store, lgpd=lgpd)
        with contextlib.suppress(TransientError, Misconfigured):  # `check_mongodb` has spoken of it
            findings += await checks.check_untold(store)
        return findings
