"""Runs in which something else than the processor is the limit: the provider, the store, calls or groups in work."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.fleet import Fleet
from benchmarks.supply import Supplied, hard_rows, mixed, pool, write_labels
from normalizer import embedded

REPLICAS: Final = (1, 2, 4, 8)
UNLIMITED: Final = {"LLM_RPM": "0", "LLM_TPM": "0"}
LABELS: Final = "labels.jsonl"
_LIMIT_RPM: Final = 40
_US_PER_ROW: Final = 20_000  # no run may take longer than this a row, and a few minutes


def run_once(
    place: Path,
    supplied: Sequence[Supplied],
    size: int,
    *,
    replicas: int = 1,
    remembered: Sequence[Supplied] = (),
    provider: embedded.ProviderService | None = None,
    settings: Mapping[str, str] | None = None,
    sink: Mapping[str, float] | None = None,
    apart: bool = False,
) -> dict[str, Any]:
    """Fill a queue, let so many replicas empty it, see that every row has ended; what it took, per row."""
    with Fleet(place, provider=provider, settings=settings, sink=sink, apart=apart) as fleet:
        if remembered:
            fleet.remember(remembered)
        fleet.pause()
        fleet.fill(supplied, size, prefix="r")
        fleet.start_workers(replicas)
        used = fleet.work_off(limit_s=300 + size * _US_PER_ROW / 1e6)
        peak_mb = fleet.peak_rss_mb()
        fleet.check(size)
    return {**used.per_row(size), "peak_rss_mb": peak_mb}


def limits(given: argparse.Namespace, directory: Path) -> Iterator[dict[str, Any]]:
    """Addresses for the model, a provider that allows few requests a minute, the shared limit off and on."""
    size = 100 if given.quick else 2_000
    rpm = 1_000 if given.quick else _LIMIT_RPM
    hard = hard_rows(size)
    points: list[dict[str, Any]] = []
    for count in REPLICAS[:1] if given.quick else REPLICAS:
        for shared in (False, True):
            place = directory / f"{count}-{shared}"
            place.mkdir()
            labels = write_labels(place / LABELS, hard)
            settings = {"LLM_RPM": str(rpm), "LLM_TPM": "0", "LLM_RECORDS_PER_CALL": "10"}
            with embedded.start_provider(labels, directory=place / "provider", rpm=rpm, latency_ms=300) as provider:
                used = run_once(
                    place, hard, size, replicas=count, provider=provider, settings=settings, apart=not shared
                )
            points.append({"replicas": count, "shared_limit": shared, "bound_s": _bound_s(used, rpm), **used})
    yield {"rpm": rpm, "rows": size, "records_per_call": "10 at the start, growing", "points": points}


def _bound_s(used: Mapping[str, Any], rpm: int) -> float:
    """The least that the answered calls take: a full minute's worth at once, the rest as the window slides."""
    answered: int = used["calls"] - used["refused"]
    return 60.0 * ((answered - 1) // rpm)


def points(given: argparse.Namespace, directory: Path) -> Iterator[dict[str, Any]]:
    """Where the store, calls under way or groups in work are the limit by construction."""
    some, more, two = ((1,), (1,), (1,)) if given.quick else ((1, 4), (1, 2, 4), (1, 2))
    measured = [_store_bound(directory / f"store-{count}", count, 200 if given.quick else 2_000) for count in some]
    measured += [_calls_bound(directory / f"calls-{count}", count, 60 if given.quick else 1_000) for count in more]
    measured += [_groups_bound(directory / f"groups-{count}", count, 100 if given.quick else 2_000) for count in two]
    yield {"points": measured}


def _store_bound(place: Path, count: int, size: int) -> dict[str, Any]:
    place.mkdir()
    updates = 100
    used = run_once(place, pool(size), size, replicas=count, sink={"updates_per_s": updates})
    return {"limit": "store", "replicas": count, "updates_per_s": updates, **used}


def _calls_bound(place: Path, count: int, size: int) -> dict[str, Any]:
    """Small groups, and few: else one replica might take all of a sheet this short."""
    setting = {"concurrency": 2, "records_per_call": 25, "max_jobs": 3, "batch_items": 50}
    return _provider_bound(place, count, hard_rows(size), "calls", setting, latency_ms=1_000, tokens_per_s=200)


def _groups_bound(place: Path, count: int, size: int) -> dict[str, Any]:
    """A fifth of the rows wait for the model; few and small groups are in work."""
    supplied = mixed(size, residual=0.2, known=0.0)
    setting = {"concurrency": 8, "records_per_call": 25, "max_jobs": 2, "batch_items": 100}
    return _provider_bound(place, count, supplied, "groups", setting, latency_ms=2_000, tokens_per_s=0)


def _provider_bound(
    place: Path, count: int, supplied: Sequence[Supplied], limit: str, setting: Mapping[str, int], **speed: int
) -> dict[str, Any]:
    place.mkdir()
    labels = write_labels(place / LABELS, [row for row in supplied if row.expected is not None])
    names = {"concurrency": "LLM_MAX_CONCURRENCY", "records_per_call": "LLM_RECORDS_PER_CALL"}
    names |= {"max_jobs": "ARQ_MAX_JOBS", "batch_items": "BATCH_MAX_ITEMS"}
    settings = {**UNLIMITED, **{names[name]: str(value) for name, value in setting.items()}}
    with embedded.start_provider(labels, directory=place / "provider", **speed) as provider:
        used = run_once(place, supplied, len(supplied), replicas=count, provider=provider, settings=settings)
    residual = sum(row.expected is not None for row in supplied) / len(supplied)
    return {"limit": limit, "replicas": count, "residual": residual, **setting, **speed, **used}
