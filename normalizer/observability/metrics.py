"""Metrics counted while the work goes on, by Prometheus' naming rules: seconds, bytes, `_total`; never a text or id.

These are only the things no object counts by itself; everything else is read when somebody asks (`prometheus.py`).
The functions are cheap and raise nothing: they stand beside the log line that says the same.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

#: Ours alone, so that a program that embeds the worker keeps its own default registry clean.
REGISTRY: Final = CollectorRegistry()

_LONG_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_WAIT_S = (0.5, 1, 5, 15, 60, 300, 900, 3_600, 14_400, 86_400)
_SIZES = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000)

_GROUP_SECONDS = Histogram(
    "normalizer_group_duration_seconds",
    "Time from the claim of a group to its end.",
    ["kind"],
    buckets=_LONG_S,
    registry=REGISTRY,
)
_GROUP_JOBS = Histogram("normalizer_group_jobs", "Jobs in a group.", ["kind"], buckets=_SIZES, registry=REGISTRY)
_JOB_SECONDS = Histogram(
    "normalizer_job_latency_seconds",
    "Time from enqueueing an appointment to its stored result.",
    buckets=_WAIT_S,
    registry=REGISTRY,
)
_APPOINTMENTS = Counter(
    "normalizer_appointments_total", "Appointments that came to an end.", ["status"], registry=REGISTRY
)
_TEXTS = Counter(
    "normalizer_texts_total",
    "Texts decided, by who decided them and what came of it (normalizado, revisar).",
    ["kind", "origin", "outcome"],
    registry=REGISTRY,
)
_EVIDENCE = Counter(
    "normalizer_addresses_checked_total",
    "Addresses held against a postal base, by what it said (confirmado, conflito, lido: nothing).",
    ["verdict"],
    registry=REGISTRY,
)
_UNKNOWN = Counter(
    "normalizer_appointments_unknown_total",
    "Jobs for appointments that are not there, e.g. replaced by a later import.",
    registry=REGISTRY,
)
_STORE_AWAY = Counter("normalizer_store_outages_total", "Groups handed back for MongoDB was away.", registry=REGISTRY)
_MODEL_SECONDS = Histogram(
    "normalizer_model_call_duration_seconds",
    "Time of an answered model call.",
    buckets=(0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60),
    registry=REGISTRY,
)
_MODEL_FAILURES = Counter(
    "normalizer_model_call_failures_total", "Model calls that brought no answer.", ["error"], registry=REGISTRY
)

#: So many jobs named an appointment that is not there.
appointments_unknown: Final = _UNKNOWN.inc
#: A group went back because MongoDB did not answer.
store_away: Final = _STORE_AWAY.inc
#: A model call was answered, in so many seconds.
model_answered: Final = _MODEL_SECONDS.observe


def group_done(kind: str, jobs: int, seconds: float) -> None:
    """A group came to its end."""
    _GROUP_JOBS.labels(kind).observe(jobs)
    _GROUP_SECONDS.labels(kind).observe(seconds)


def appointments_ended(statuses: Iterable[str], *, waited_s: Iterable[float] = ()) -> None:
    """Appointments were stored with these statuses, so long after they were enqueued."""
    for status, number in collections.Counter(statuses).items():
        _APPOINTMENTS.labels(status).inc(number)
    for seconds in waited_s:
        _JOB_SECONDS.observe(max(0.0, seconds))


def texts_decided(texts: Iterable[tuple[str, str, str]]) -> None:
    """Texts of appointments have their outcomes: kind, origin and outcome of each."""
    for labels, number in collections.Counter(texts).items():
        _TEXTS.labels(*labels).inc(number)


def addresses_checked(verdicts: Iterable[str]) -> None:
    """A postal base was asked about stored addresses, and said this of each."""
    for verdict, number in collections.Counter(verdicts).items():
        _EVIDENCE.labels(verdict).inc(number)


def model_failed(error: str) -> None:
    """A model call brought no answer; `error` is the type's name."""
    _MODEL_FAILURES.labels(error).inc()
