"""The worker against other ways to do the same: same rows, services, provider and limits, interleaved rounds.

`python -m benchmarks.run [--rows N] [--rounds N] [--quick] [--out FILE]` prints a table and writes
`benchmarks/results/run.json`. Three scenarios, all with the simulated provider:

- `open`: no limits. Rounds are interleaved and alternate in order; medians, lowest and highest.
- `limited`: the account's requests and tokens a minute are what counts. One run, all peers at the same time (they wait
  nearly all of it), each with a provider and limits of its own.
- `alone`: an untidier and larger sheet, of which this worker leaves so much to the model that the limits bind it too.

The store is `benchmarks.sink`: MongoDB's protocol in front of memory, so that nobody is measured by a store's speed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import structlog

from benchmarks.figures import MODEL, PRICES, Round, bound, plain, ratios, summary
from benchmarks.peers.line_up import OURS, PEERS
from benchmarks.processes import environment
from benchmarks.rounds import Ground, run_round
from benchmarks.scenarios import Mess, write_scenario
from benchmarks.sink import SinkService, start_sink
from normalizer import embedded

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

RESULTS: Final = Path(__file__).parent / "results" / "run.json"
SEED: Final = 7


@dataclass(frozen=True, slots=True)
class Scenario:
    """Rows, and how the provider treats them. Limits are per minute; 0 is none."""

    rows: int
    rpm: int = 0
    tpm: int = 0
    latency_ms: float = 300.0
    tokens_per_s: float = 200.0
    spread: float = 0.2
    mess: Mess = field(default_factory=Mess)

    @property
    def speed(self) -> dict[str, float]:
        """What the provider is started with, without its limits."""
        return {"latency_ms": self.latency_ms, "tokens_per_s": self.tokens_per_s, "spread": self.spread}


@dataclass(frozen=True, slots=True)
class Plan:
    """What is run; `against` are the peers of the limited scenario."""

    rounds: int
    against: tuple[str, ...]
    open: Scenario
    limited: Scenario
    alone: Scenario | None = None


def plan_of(rows: int, rounds: int) -> Plan:
    """The full run: about eleven minutes at 500 rows and three rounds."""
    return Plan(
        rounds=rounds,
        against=tuple(PEERS),
        open=Scenario(rows),
        limited=Scenario(rows, rpm=180, tpm=40_000),
        alone=Scenario(20 * rows, rpm=180, tpm=40_000, mess=Mess(untidy=0.8, remarked=0.6)),
    )


def quick_plan(rows: int) -> Plan:
    """Every peer once, limits for ours alone, few rows, a fast provider: says that it runs, not how fast."""
    fast = Scenario(rows, latency_ms=20.0, tokens_per_s=5_000.0)
    return Plan(rounds=1, against=(OURS,), open=fast, limited=replace(fast, rpm=600, tpm=200_000))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the rounds, print the table, write the JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.run", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="40 rows, one round, a fast provider; writes only --out")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(argv)
    plan = quick_plan(options.rows or 40) if options.quick else plan_of(options.rows or 500, options.rounds)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    before = environment()
    with tempfile.TemporaryDirectory(prefix="normalizer-bench-", ignore_cleanup_errors=True) as directory:
        document = {**_run(plan, Path(directory)), "environment": before, "environment_after": environment()}
    show(document)
    out = options.out or (None if options.quick else RESULTS)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


def _run(plan: Plan, directory: Path) -> dict[str, Any]:
    with embedded.start_valkey(directory / "valkey") as redis, start_sink(directory / "sink") as store:
        services = Services(redis, store, directory)
        opened = services.interleaved(plan.open, plan.rounds)
        limited = services.together(plan)
    return _document(plan, opened, limited)


class Services:
    """The servers all rounds share, and how rounds are laid over them."""

    def __init__(self, redis: embedded.RedisService, store: SinkService, directory: Path) -> None:
        self._redis, self._store, self._directory = redis, store, directory

    def interleaved(self, scenario: Scenario, rounds: int) -> list[Round]:
        """Round by round all peers, one at a time, every other round backwards: what drifts on the machine hits all."""
        done = []
        with self._provider("open", scenario) as (sheet, provider):
            for number in range(rounds):
                for name in list(PEERS)[:: 1 if number % 2 == 0 else -1]:
                    ground = self._ground(f"open_{number}_{name}", 0, provider, scenario)
                    done.append(run_round(name, PEERS[name], ground, sheet))
                    print(f"round {number + 1} {name}: {done[-1].rows_per_s:.1f} rows/s", file=sys.stderr)
        return done

    def together(self, plan: Plan) -> dict[str, list[Round]]:
        """The limited scenarios, all peers at the same time, each with a Redis database of its own."""
        jobs = [("limited", plan.limited, name) for name in plan.against]
        if plan.alone:
            jobs.append(("alone", plan.alone, OURS))
        with ThreadPoolExecutor(len(jobs)) as pool:
            rounds = [pool.submit(self._limited, number, *job) for number, job in enumerate(jobs, start=1)]
            done = [each.result() for each in rounds]
        count = len(plan.against)
        return {"limited": done[:count], "alone": done[count:]}

    def _limited(self, number: int, label: str, scenario: Scenario, name: str) -> Round:
        with self._provider(f"{label}-{name}", scenario) as (sheet, provider):
            done = run_round(name, PEERS[name], self._ground(f"{label}_{name}", number, provider, scenario), sheet)
        print(f"{label} {name}: {done.seconds:.1f} s, {done.calls} calls", file=sys.stderr)
        return done

    @contextlib.contextmanager
    def _provider(self, label: str, scenario: Scenario) -> Iterator[tuple[Path, embedded.ProviderService]]:
        place = self._directory / label
        sheet, labels = write_scenario(place, rows=scenario.rows, seed=SEED, mess=scenario.mess)
        limits = {"rpm": scenario.rpm, "tpm": scenario.tpm}
        with embedded.start_provider(labels, directory=place / "provider", **scenario.speed, **limits) as provider:
            yield sheet, provider

    def _ground(
        self, database: str, redis_number: int, provider: embedded.ProviderService, scenario: Scenario
    ) -> Ground:
        return Ground(
            redis_url=self._redis.database(redis_number),
            mongo_url=self._store.url,
            database=f"bench_{database}".replace("-", "_"),
            provider=provider,
            directory=self._directory,
            rpm=scenario.rpm,
            tpm=scenario.tpm,
            shared_redis=bool(redis_number),
        )


def _document(plan: Plan, opened: Sequence[Round], limited: Mapping[str, Sequence[Round]]) -> dict[str, Any]:
    peers = {name: summary([each for each in opened if each.peer == name]) for name in PEERS}
    scenarios = {"open": plan.open, "limited": plan.limited} | ({"alone": plan.alone} if plan.alone else {})
    return {
        "simulated": True,
        "rounds": plan.rounds,
        "seed": SEED,
        "scenarios": {name: asdict(scenario) for name, scenario in scenarios.items()},
        "peers": {name: peer.what for name, peer in PEERS.items()},
        "prices": PRICES,
        "open": peers,
        "ratios": {name: ratios(peers[OURS], peers[name]) for name in PEERS if name != OURS},
        **{label: [_against_limits(each, scenarios[label]) for each in done] for label, done in limited.items()},
        "raw": [plain(each) for each in opened],
    }


def _against_limits(done: Round, scenario: Scenario) -> dict[str, Any]:
    limits = {name: getattr(scenario, name) for name in ("rpm", "tpm", "latency_ms", "tokens_per_s")}
    return plain(done) | {"bound": bound(done, **limits)}


def show(document: Mapping[str, Any]) -> None:
    """Print the medians, and the limited runs."""
    print(
        f"{document['scenarios']['open']['rows']} rows, {document['rounds']} rounds, simulated provider, {MODEL} prices"
    )
    heads = f"{'rows/s':>9}{'calls':>7}{'tokens':>9}{'US$/1000':>10}{'p95 s':>8}{'µs/row':>9}{'MB':>6}{'cmd/row':>9}"
    print(f"{'peer':<16}{heads}")
    for name, found in document["open"].items():
        m = {key: value["median"] for key, value in found.items()}
        print(
            f"{name:<16}{m['rows_per_s']:>9.1f}{m['calls']:>7.0f}{m['tokens_in'] + m['tokens_out']:>9.0f}"
            f"{m['usd_per_1000_rows']:>10.4f}{m['wait_p95_s']:>8.1f}{m['cpu_us_per_row']:>9.0f}"
            f"{m['peak_rss_mb']:>6.0f}{m['redis_commands_per_row']:>9.1f}"
        )
    for label in ("limited", "alone"):
        for each in document[label]:
            print(
                f"{label} {each['peer']}: {each['seconds']:.0f} s, {each['bound']['ratio'] or '-'} times its bound, "
                f"{each['refused']} refused, {each['late_share']:.0%} over 300 s"
            )


if __name__ == "__main__":
    sys.exit(main())
