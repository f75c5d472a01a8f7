"""Faults of the model provider that stand for a while: what the worker does meanwhile, what the operator reads, what it
costs, and that nothing needs a hand once they are mended.

One fault for each line of the provider's table in docs/BACKGROUND_JOBS.md. `python -m tests.acceptance.standing --fault
"recusa tudo"` is the long form: an import of 2,000 rows, the fault for ten minutes, the figures of both runs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from normalizer.domain.decision import Reason
from normalizer.simulation import embedded
from tests.acceptance.harness import Deployment, Row, make_rows, write_labels

HARD: Final = 0.5
LONG_ROWS: Final = 2_000


@dataclass(frozen=True, slots=True)
class Standing:
    """One fault: how the provider is told, and what `status` (or `doctor`) says of it.

    Attributes:
        reads: words of the lane's status while it stands; empty where nothing stands still.
        doctor: words of the doctor's.
        poison: the fault comes only with one text, which ends in review for its own reason.
        settings: what the worker needs to meet it at all.
    """

    how: Mapping[str, Any]
    reads: str = ""
    doctor: str = ""
    poison: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)


def _status(status: int, **more: Any) -> dict[str, Any]:
    return {"kind": "status", "status": status, **more}


FAULTS: Final[Mapping[str, Standing]] = {
    "recusa tudo": Standing(_status(400, message="typo is not a valid model ID"), "typo is not a valid model ID"),
    "recusa a chave ou a conta": Standing(_status(401), "recusou a chave ou a conta (401)"),
    "recusa um texto": Standing(_status(400), poison=True),
    "quebra com um texto": Standing(_status(500), poison=True),
    "fora do ar": Standing(_status(503), "provedor fora do ar"),
    "pede uma pausa": Standing(_status(429, retry_after_s=86_400), "Retry-After de 86400 s"),
    "responde sem resposta": Standing({"kind": "no_choices"}, "não dá resposta que se possa ler"),
    "gasta os tokens em raciocínio": Standing({"kind": "reasoned"}, "gastou os tokens em raciocínio"),
    "não aceita um parâmetro": Standing(
        _status(400, parameter="temperature", message="Unsupported parameter: temperature"), doctor="sem temperature"
    ),
    "lenta": Standing({"kind": "slow_start", "seconds": 2.0}),
    "recusa a camada flex": Standing(
        _status(429, parameter="service_tier", code="resource_unavailable"), settings={"LLM_SERVICE_TIER": "flex"}
    ),
}


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run cost: `paid` calls were answered with a 200, `asked` ones reached the provider."""

    seconds: float
    asked: int
    paid: int


def suffer(
    deployment: Deployment,
    fault: Standing | None,
    rows: Sequence[Row],
    stand: Callable[[], object],
    *,
    patience_s: float,
) -> Figures:
    """Import `rows` while the fault stands as long as `stand` waits; once it is mended everything ends by itself."""
    before, began, ended = deployment.stats(), time.monotonic(), deployment.statuses()
    poisoned = next(row for row in rows if row.hard) if fault is not None and fault.poison else None
    if fault is not None:
        only = {} if poisoned is None else {"text": poisoned.address["numero"]}
        deployment.fault({**fault.how, **only, "times": 1_000_000})
    deployment.put(rows)
    if fault is not None and fault.reads:
        _stands_still(deployment, fault, rows, ended, stand, patience_s)
        deployment.fault()
    deployment.wait_until_all_ended(timeout_s=patience_s)
    if fault is not None and fault.doctor:
        assert fault.doctor in " ".join(deployment.cli("doctor").stdout.split())
    deployment.fault()
    _ended_for_their_own_reasons(deployment, rows, poisoned, ended)
    after, paid = deployment.stats(), _counted_by_both(deployment)
    asked = after["requests"] - before["requests"]
    return Figures(time.monotonic() - began, asked, paid - before["by_status"].get("200", 0))


def _ended_for_their_own_reasons(
    deployment: Deployment, rows: Sequence[Row], poisoned: Row | None, before: Counter[str]
) -> None:
    now = deployment.statuses()
    now.subtract(before)
    in_review = {} if poisoned is None else {"revisar": 1}
    assert +now == Counter({"concluido": len(rows) - len(in_review), **in_review}), deployment.last_words()
    if poisoned is not None:
        [stored] = deployment.appointments.find({"id_agendamento": poisoned.key})
        assert stored["normalizacao"]["endereco"]["motivo"] == Reason.MODEL_REFUSED


def _counted_by_both(deployment: Deployment) -> int:
    """Calls that were answered: the budget counts what the provider counts."""
    theirs, ours = deployment.stats(), deployment.lane().today
    paid: int = theirs["by_status"].get("200", 0)
    assert (ours.calls, ours.tokens_in, ours.tokens_out) == (paid, theirs["tokens_in"], theirs["tokens_out"])
    return paid


def _stands_still(
    deployment: Deployment,
    fault: Standing,
    rows: Sequence[Row],
    before: Counter[str],
    stand: Callable[[], object],
    patience_s: float,
) -> None:
    """Rules go on, the rest waits in the queue; no row is blamed, and the operator reads why."""
    easy, hard = sum(not row.hard for row in rows), sum(row.hard for row in rows)
    told, settled = "what is wrong is said", "what rules settle ends all the same"
    deployment.wait(lambda: fault.reads in " ".join(deployment.lane().lines()), told, timeout_s=patience_s)
    deployment.wait(lambda: deployment.ended() == sum(before.values()) + easy, settled, timeout_s=patience_s)
    stand()
    now = deployment.statuses()
    now.subtract(before)
    assert +now == Counter({"concluido": easy, "pendente": hard}), deployment.last_words()


def probed(deployment: Deployment, times: int) -> Callable[[], object]:
    """A time to stand that depends on no clock: until the lane has been tried so often again."""

    def stand() -> object:
        seen = deployment.stats()["requests"]
        return deployment.wait(lambda: deployment.stats()["requests"] >= seen + times, "it is tried again")

    return stand


def run(name: str, minutes: float, rows: int, directory: Path) -> int:
    """Undisturbed, then with the fault; returns the exit code."""
    fault = FAULTS[name]
    made = make_rows(2 * rows, hard=HARD)
    labels = write_labels(directory / "labels.jsonl", made)
    valkey, mongo = embedded.start_valkey(directory / "valkey"), embedded.start_mongo(directory / "mongo")
    provider = embedded.start_provider(labels, directory=directory / "provider", latency_ms=300, tokens_per_s=400)
    settings = {"LEASE_S": "15", "BATCH_MAX_ITEMS": "250", "ARQ_JOB_TIMEOUT": "300", **fault.settings}
    deployment = Deployment(directory, valkey.url, mongo.url, "standing", provider, settings)
    try:
        for _ in range(2):
            deployment.start_ready_worker()
        calm = suffer(deployment, None, made[:rows], lambda: None, patience_s=600)
        storm = suffer(deployment, fault, made[rows:], lambda: time.sleep(60 * minutes), patience_s=1_800)
    finally:
        deployment.close()
        for service in (provider, mongo, valkey):
            service.kill()
    share = storm.paid / calm.paid
    print(f"{name}: undisturbed {calm}\n{name}: disturbed   {storm}\npaid calls: {share:.2f} of the undisturbed run's")
    return 0 if share <= 1.2 else 1


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description="one fault of the provider, standing for a while over one import")
    parser.add_argument("--fault", choices=list(FAULTS), required=True)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rows", type=int, default=LONG_ROWS)
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="standing-"))
    sys.exit(run(options.fault, options.minutes, options.rows, directory))


if __name__ == "__main__":
    main()
