"""Each line of the provider's table in docs/BACKGROUND_JOBS.md, on a real worker: the fault stands, and is mended.

The long form, ten minutes over 2,000 rows, is `python -m tests.acceptance.standing`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from normalizer.simulation import embedded
from tests.acceptance.conftest import deploying
from tests.acceptance.harness import KEYS, ROOT, Deployment, make_rows
from tests.acceptance.standing import FAULTS, HARD, Standing, probed, suffer

ROWS = 40
EVERY_ROW = make_rows(ROWS * len(FAULTS), hard=HARD)
QUICK = {"recusa tudo", "recusa um texto", "pede uma pausa", "não aceita um parâmetro"}
MOST_CALLS = 16  # one that is refused, the control question's plainest form, two tries, and what was to be asked
MOST_TO_ISOLATE = 30  # five halvings, each tried twice where a 500 may pass, with a control question each
#: Every pause is as short as a test can wait for; what an operator waits for is only longer.
SHORT = {"LLM_MAX_PAUSE_S": "2", "BATCH_MAX_ITEMS": "250", "LLM_MAX_CONCURRENCY": "4"}


@pytest.fixture(scope="module")
def shared(
    tmp_path_factory: pytest.TempPathFactory,
    breakable_valkey: embedded.RedisService,
    breakable_mongo: embedded.MongoService,
) -> Iterator[Deployment]:
    """One worker that lives through all the faults, one after the other."""
    with deploying(tmp_path_factory.mktemp("faults"), breakable_valkey, breakable_mongo) as deploy:
        deployment = deploy(rows=len(EVERY_ROW), hard=HARD, settings=SHORT)
        deployment.start_ready_worker()
        yield deployment


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("number", "name"),
    [pytest.param(*each, marks=() if each[1] in QUICK else pytest.mark.slow) for each in enumerate(FAULTS)],
)
def test_while_a_fault_stands_nothing_is_lost_and_once_it_is_mended_everything_ends(
    shared: Deployment, number: int, name: str
) -> None:
    fault, rows = FAULTS[name], EVERY_ROW[ROWS * number : ROWS * (number + 1)]
    restart(shared, fault)

    def stand() -> None:
        shared.wait(lambda: len(due_times(shared)) == 1, "what waits comes back together, to share calls again")
        probed(shared, 2)()

    figures = suffer(shared, fault, rows, stand, patience_s=120)

    assert figures.asked <= (MOST_TO_ISOLATE if fault.poison else MOST_CALLS), figures


def due_times(deployment: Deployment) -> set[float]:
    queued = deployment.redis.zrange(KEYS.queue, 0, -1, withscores=True)
    return {due for name, due in queued if name.startswith(b"norm:")}


def restart(deployment: Deployment, fault: Standing) -> None:
    """Another worker where the fault needs other settings."""
    wanted = {**deployment.environment, **fault.settings}
    if {name: deployment.workers[-1].env.get(name) for name in wanted} != wanted:
        deployment.workers[-1].stop()
        deployment.start_ready_worker(**fault.settings)


def test_each_line_of_the_table_has_its_fault() -> None:
    guide = (ROOT / "docs" / "BACKGROUND_JOBS.md").read_text(encoding="utf-8")
    table = guide.partition("### Quando a IA falha")[2].partition("\n#")[0]
    lines = re.findall(r"^\| (?!o que|---)([^|]+) \|", table, re.MULTILINE)

    assert [next((name for name in FAULTS if line.startswith(name)), None) for line in lines] == list(FAULTS)
