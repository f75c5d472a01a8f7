"""The functions the worker runs: `normalize_appointment` (a batch function), `reconcile` (cron), `refill`.

They tie the queue to the store and the pipeline: load once, save and settle each appointment as soon as it is decided.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from normalizer.domain.appointment import Appointment, Normalized, Review, Status
from normalizer.errors import NormalizerError, ProviderRefused, QueueUnavailable, StoreUnavailable, TransientError
from normalizer.observability import metrics
from normalizer.observability.tracing import span
from normalizer.queue.group import Done, Failed, Group, Settlement, Snooze
from normalizer.queue.leases import ClaimedJob
from normalizer.store import AppointmentStore, Result, SaveReport, id_text
from normalizer.worker.pipeline import Deferred, Finished, Pipeline, Progress

if TYPE_CHECKING:
    from normalizer.cache import Cache
    from normalizer.llm.pricing import Ledger
    from normalizer.queue.service import TaskService

log = structlog.get_logger(__name__)

CONTEXT_KEY = "normalization"
_PROVIDER_RETRY_S = 30.0
_STORE_RETRY_S = 5.0
_LONGEST_WAIT_S = 60.0  # however long a pause is: an operator who ends it early waits for no row
_RECONCILE_CHUNK = 1_000
_RECONCILE_ENOUGH = 20_000  # in a row that the queue has already: what waits behind them is met as these end
_RECONCILE_AGE_S = 120.0
_IDS_SHOWN = 10
# An import that replaces a unit's appointments leaves jobs for ids that are gone: a result, and no alarm.
_NOBODY = Done({"success": False, "error": "Appointment not found"})
_NAMELESS = Failed(
    "argumento inválido: esperado o id do agendamento como primeiro argumento; enfileire normalize_appointment com o "
    "campo id"
)
_ARGUMENTS = ("appointment_id", "id")


@dataclass(frozen=True, slots=True)
class Normalization:
    """What the tasks need, held in ARQ's `ctx` under `CONTEXT_KEY`."""

    store: AppointmentStore
    pipeline: Pipeline
    tasks: TaskService
    cache: Cache | None = None
    ledger: Ledger | None = None


async def normalize_appointment(ctx: Mapping[str, Any], group: Group) -> None:
    """Normalize every appointment of the group; each job is settled on its own, as soon as its result is stored."""
    work: Normalization = ctx[CONTEXT_KEY]
    with span("group", jobs=len(group.jobs)):
        try:
            await _normalize(work, group)
        except StoreUnavailable as error:
            log.warning("store.unavailable", jobs=len(group.jobs))
            metrics.store_away()
            await group.settle(dict.fromkeys(group.unsettled, _back(error, _STORE_RETRY_S)))


async def _normalize(work: Normalization, group: Group) -> None:
    named = await _jobs_by_name(group)
    found = await work.store.load(list(named))
    nobody = named.keys() - found.keys()
    metrics.appointments_unknown(len(nobody))
    await group.settle(_every(named, dict.fromkeys(nobody, _NOBODY)))
    appointments = {each.id: each for each in found.values()}
    jobs: dict[str, list[ClaimedJob]] = defaultdict(list)
    for name, each in found.items():
        jobs[each.id] += named[name]
    await _give_up(work, group, jobs, [each for each in appointments.values() if each.defect])
    sound = [each for each in appointments.values() if not each.defect]
    decided = work.pipeline.run(sound, deadline=group.deadline, stopped=group.until_cancelled)
    async with contextlib.aclosing(decided):
        async for progress in decided:
            await _save_and_settle(work, group, jobs, progress)


async def report_dead(ctx: Mapping[str, Any], dead: Sequence[tuple[ClaimedJob, str]]) -> None:
    """Tell the store which appointments ended as `falhou`, and why, before the queue forgets them."""
    work: Normalization = ctx[CONTEXT_KEY]
    named = [(job, appointment_id, cause) for job, cause in dead if (appointment_id := _appointment_id(job))]
    await work.store.mark_failed({appointment_id: (cause, job.fence) for job, appointment_id, cause in named})
    metrics.appointments_ended([Status.FAILED] * len(named))
    log.warning("appointments.failed", jobs=[job.job_id for job, *_ in named][:_IDS_SHOWN], appointments=len(named))


async def reconcile(ctx: Mapping[str, Any]) -> int:
    """Enqueue again what MongoDB holds as `pendente` and the queue may have lost. Returns how many were looked at.

    Truth is in MongoDB: after a FLUSHALL every row still ends. Enqueueing what is queued already changes nothing; once
    `_RECONCILE_ENOUGH` rows, oldest first, were found queued one after another, the rest is left to the next turns, so
    that a long queue that lost nothing is not read whole every five minutes.
    """
    work: Normalization = ctx[CONTEXT_KEY]
    looked_at = held = 0
    async with contextlib.aclosing(
        work.store.pending(limit=_RECONCILE_CHUNK, older_than_s=_RECONCILE_AGE_S)
    ) as pending:
        async for chunk in pending:
            fingerprints = {item.id: item.fingerprint for item in chunk}
            enqueued = await work.tasks.enqueue_many(list(fingerprints), fingerprints=fingerprints)
            looked_at += len(chunk)
            held = held + len(chunk) if enqueued.already_queued == len(chunk) else 0
            if held >= _RECONCILE_ENOUGH:
                break
    if looked_at:
        log.info("reconcile.enqueued", appointments=looked_at)
    return looked_at


async def refill(ctx: Mapping[str, Any]) -> None:
    """Put back into an emptied Redis what no job and no model can bring back, before anything is claimed from it.

    The pause comes last: whoever finds it there finds the rest as well. Raises StoreUnavailable, QueueUnavailable.
    """
    work: Normalization = ctx[CONTEXT_KEY]
    state, corrected = work.store.durable_state, 0
    if work.ledger is not None:
        await work.ledger.restore(await state.spending())
    if work.cache is not None:
        async for chunk in state.corrections():
            if not await work.cache.put_answers(chunk):
                raise QueueUnavailable("O Redis parou de responder enquanto recebia as correções.")
            corrected += len(chunk)
    order = await state.pause()
    if order in {"pause", "drain"}:
        await getattr(work.tasks, order)()
    log.info("redis.refilled", corrections=corrected, paused=order is not None)


async def _jobs_by_name(group: Group) -> dict[str, list[ClaimedJob]]:
    """Jobs by the name they give the appointment; a job that names none is settled as failed here."""
    jobs: dict[str, list[ClaimedJob]] = defaultdict(list)
    nameless: list[ClaimedJob] = []
    for job in group.unsettled.values():
        appointment_id = _appointment_id(job)
        if appointment_id is None:
            nameless.append(job)
        else:
            jobs[appointment_id].append(job)
    if nameless:
        await group.settle({job.job_id: _NAMELESS for job in nameless})
    return jobs


async def _give_up(
    work: Normalization, group: Group, jobs: Mapping[str, Sequence[ClaimedJob]], broken: Sequence[Appointment]
) -> None:
    """End records that cannot be read at all, each with its cause; their neighbours go on."""
    if not broken:
        return
    causes = {each.id: each.defect or "" for each in broken}
    await work.store.mark_failed({name: (cause, group.fence) for name, cause in causes.items()})
    metrics.appointments_ended([Status.FAILED] * len(broken))
    ends = {name: _done(name, Status.FAILED, errors=[cause]) for name, cause in causes.items()}
    await group.settle(_every(jobs, ends))


def _appointment_id(job: ClaimedJob) -> str | None:
    """The name a job gives its appointment, first among its arguments; what else stands there changes nothing."""
    given = [*job.args[:1], *(job.kwargs[name] for name in _ARGUMENTS if name in job.kwargs)]
    return id_text(given[0]) or None if given else None


async def _save_and_settle(
    work: Normalization, group: Group, jobs: Mapping[str, Sequence[ClaimedJob]], progress: Sequence[Progress]
) -> None:
    backs: dict[NormalizerError, Snooze] = {}  # what one error deferred comes back at one time, to share calls again
    deferred: dict[str, Settlement] = {
        item.appointment.id: backs.setdefault(item.error, _back(item.error, _PROVIDER_RETRY_S))
        for item in progress
        if isinstance(item, Deferred)
    }
    aborted = group.aborted
    finished = [item for item in progress if isinstance(item, Finished) and _is_wanted(item, aborted, jobs)]
    results = {item.appointment.id: _result(item, jobs[item.appointment.id]) for item in finished}
    report = await work.store.save(list(results.values()))
    if report.saved:
        _note(group, finished, jobs, report.saved)
    await group.settle(_every(jobs, deferred) | _settlements(jobs, report, results))


def _settlements(
    jobs: Mapping[str, Sequence[ClaimedJob]], report: SaveReport, results: Mapping[str, Result]
) -> dict[str, Settlement]:
    ends: dict[str, Settlement] = {}
    for appointment_id, status in report.saved.items():
        result = results[appointment_id]
        ends[appointment_id] = _done(
            appointment_id, status, fields=result.fields_normalized, errors=result.ending.errors
        )
    # A conflict is an edit that won: the new text is normalized in the next turn.
    ends |= dict.fromkeys(report.conflicts, Snooze())
    ends |= dict.fromkeys(report.failed, Snooze(after_s=_jittered(_STORE_RETRY_S)))
    ends |= {appointment_id: Failed(cause) for appointment_id, cause in report.refused.items()}
    return _every(jobs, ends)


def _is_wanted(item: Finished, aborted: Set[str], jobs: Mapping[str, Sequence[ClaimedJob]]) -> bool:
    """Not where every job of it was aborted meanwhile. A job that was lost is no reason: its answer is paid for."""
    return not aborted or any(job.job_id not in aborted for job in jobs[item.appointment.id])


def _note(
    group: Group, finished: Sequence[Finished], jobs: Mapping[str, Sequence[ClaimedJob]], saved: Mapping[str, Status]
) -> None:
    """Count what ended, and log one line for all: which imports they belong to, and how many ended how."""
    now_s = time.time()
    waited_s = [now_s - job.enqueued_at_ms / 1000 for appointment_id in saved for job in jobs[appointment_id]]
    metrics.appointments_ended(saved.values(), waited_s=waited_s)
    decided = [each for item in finished if item.appointment.id in saved for each in item.outcomes.items()]
    metrics.texts_decided(
        (kind, outcome.origin, "normalizado" if isinstance(outcome, Normalized) else "revisar")
        for kind, outcome in decided
        if isinstance(outcome, (Normalized, Review))
    )
    metrics.addresses_checked(
        outcome.verdicts.summary for _, outcome in decided if isinstance(outcome, Normalized) and outcome.verdicts
    )
    imports = {item.appointment.import_id for item in finished} - {None}
    counts = {status.value: number for status, number in Counter(saved.values()).items()}
    log.info("appointments.saved", group=group.token, imports=sorted(map(str, imports)), **counts)


def _result(item: Finished, jobs: Sequence[ClaimedJob]) -> Result:
    newest = max(jobs, key=lambda job: job.fence)
    return Result(item.appointment, item.outcomes, fence=newest.fence, tries=newest.try_, job_id=newest.job_id)


def _done(appointment_id: str, status: Status, *, fields: Sequence[str] = (), errors: Sequence[str] = ()) -> Done:
    """The result in the shape that the deployed backend's pages read, and ours beside it."""
    return Done(
        {
            "success": True,
            "appointment_id": appointment_id,
            "fields_normalized": list(fields),
            "errors": list(errors) or None,
            "id": appointment_id,
            "status": str(status),
        }
    )


def _every(jobs: Mapping[str, Sequence[ClaimedJob]], ends: Mapping[str, Settlement]) -> dict[str, Settlement]:
    """How each job ends, from how its appointment did."""
    return {job.job_id: how for appointment_id, how in ends.items() for job in jobs[appointment_id]}


def _back(error: NormalizerError, default_s: float) -> Snooze:
    """Later, without counting a try: the outage is nobody's row's fault."""
    asked = error.retry_after_s if isinstance(error, TransientError | ProviderRefused) else None
    asked = None if asked is None else min(asked, _LONGEST_WAIT_S)
    return Snooze(after_s=_jittered(default_s if asked is None else asked))


def _jittered(seconds: float) -> float:
    """Never sooner than it was said to be of use."""
    return seconds * random.uniform(1.0, 1.2)
