"""Trials: real workers on a simulated provider with the given limits; and the climb from setting to better setting."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from benchmarks.fleet import run_once
from benchmarks.supply import mixed, write_labels
from benchmarks.tune.workload import Workload
from normalizer.simulation import embedded

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


@dataclass(frozen=True, slots=True)
class Setting:
    """What is tried. The defaults are the worker's own."""

    replicas: int = 1
    max_jobs: int = 10
    records_per_call: int = 25
    concurrency: int = 8

    @property
    def environment(self) -> dict[str, str]:
        """The variables that make a worker so."""
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
    limits = {"LLM_RPM": str(account.rpm), "LLM_TPM": str(account.tpm)}
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
                settings={**setting.environment, **limits},
            )
    calls, refused = int(used["calls"]), int(used["refused"])
    cpu_s = used["worker_cpu_us_per_row"] * rows / 1e6
    tokens = int(used["tokens_in"]), int(used["tokens_out"])
    return Trial(setting, account, rows, used["seconds"], calls - refused, refused, *tokens, cpu_s)
