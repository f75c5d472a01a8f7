"""A worker process kills itself at a named point; another finishes its work. What may be done twice is known exactly.

The points are patched in from outside (sabotage/sitecustomize.py), into real `python workers.py` processes.
"""

from __future__ import annotations

import signal
from collections import Counter

import pytest

from tests.acceptance.harness import Event, make_rows

ROWS = 120
POINTS = {
    "claimed": "after the claim",
    "answered": "after the model answered, before the cache write",
    "cached": "after the cache write",
    "stored": "after the store write, before the settle",
}


def items(events: list[Event], what: str) -> Counter[str]:
    return Counter(item for event in events if event.what == what for item in event.items)


def appointments(events: list[Event], what: str) -> set[str]:
    """Of jobs, the appointments."""
    return {job_id.split(":")[1] for job_id in items(events, what)}


def die_and_be_replaced(deploy, point: str, hit: int):
    deployment = deploy(rows=ROWS, hard=0.5, latency_ms=150)
    deployment.put(make_rows(ROWS, hard=0.5))
    victim = deployment.start_worker(**deployment.sabotage(point=point, hit=hit))
    assert victim.wait(60) == -signal.SIGKILL, victim.tail()
    deployment.start_ready_worker(**deployment.sabotage())
    deployment.wait_until_all_ended()

    events = deployment.journal()
    by_victim = [event for event in events if event.pid == victim.pid]
    by_heir = [event for event in events if event.pid != victim.pid]
    assert [event.what for event in by_victim if event.what == "died"] == ["died"]

    # Model calls. The heir asks again exactly what the victim had asked and not yet put into the cache; a write that
    # was under way when the process died may have arrived or not.
    asked_by_heir = items(by_heir, "asked")
    asked_by_victim = Counter(deployment.asked_records()) - asked_by_heir
    remembered = items(by_victim, "cached")
    again = asked_by_heir.keys() & asked_by_victim.keys()
    assert asked_by_victim.keys() - items(by_victim, "caching").keys() <= again
    assert again <= asked_by_victim.keys() - remembered.keys()
    assert max((asked_by_heir + asked_by_victim).values()) <= 2
    if point == "answered":
        paid_for = items(by_victim, "answered").keys()
        assert paid_for - remembered.keys(), "the answer that was to be lost was not"
    if point in {"cached", "stored"}:
        last = next(event for event in reversed(by_victim) if event.what == "cached")
        assert last.items.isdisjoint(asked_by_heir), "asked again after the cache write"

    # Store writes. Written twice is what the victim had stored and not yet settled; a call that was under way when the
    # process died may have arrived or not.
    surely = items(by_victim, "stored").keys() - appointments(by_victim, "settling")
    perhaps = items(by_victim, "storing").keys() - appointments(by_victim, "settled")
    written = {record["id"]: record["normalizacao"]["revisao"] for record in deployment.appointments.find()}
    twice = {id_ for id_, revision in written.items() if revision > 2}
    assert surely <= twice <= perhaps
    if point == "stored":
        assert twice, "nothing was stored and left unsettled"
    assert max(written.values()) <= 3

    deployment.check(repeated_calls=len(again), rewritten=len(twice))
    assert deployment.appointments.distinct("normalizacao.tentativas") == [1], "a crash counted as a try"


@pytest.mark.parametrize("point", POINTS, ids=POINTS.values())
def test_a_process_dies_at_a_named_point(deploy, point):
    die_and_be_replaced(deploy, point, hit=1)


@pytest.mark.slow
@pytest.mark.parametrize("hit", [2, 3])
@pytest.mark.parametrize("point", POINTS, ids=POINTS.values())
def test_a_process_dies_at_a_later_passage_of_the_point(deploy, point, hit):
    die_and_be_replaced(deploy, point, hit=hit)


def poison_a_row(deploy, rows: int):
    deployment = deploy(rows=rows, hard=0.25)
    deployment.put(make_rows(rows, hard=0.25))
    poison = deployment.appointments.find_one({"id_agendamento": f"row-{rows // 2}"})["id"]
    for _ in range(2):
        deployment.start_worker(**deployment.sabotage(poison=poison))
    deployment.wait(lambda: deployment.revive() or deployment.ended() == rows, "every row ends", timeout_s=110)
    deployment.wait_until_all_ended()

    deaths = items_of_deaths(deployment)
    failed = list(deployment.appointments.find({"normalizacao.status": "falhou"}))
    assert [record["id"] for record in failed] == [poison]
    assert failed[0]["normalizacao"]["erro"] == "derrubou o processo"
    assert deployment.statuses() == {"concluido": rows - 1, "falhou": 1}, "a neighbour did not end well"
    assert 4 <= deaths <= 12, f"{deaths} deaths for one row"
    deployment.check(repeated_calls=rows, rewritten=rows, falhou=1)


def items_of_deaths(deployment) -> int:
    return sum(event.what == "died" for event in deployment.journal())


def test_a_row_that_kills_its_process_is_isolated_and_its_neighbours_end_well(deploy):
    poison_a_row(deploy, rows=10)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_poisonous_row_in_a_full_group(deploy):
    poison_a_row(deploy, rows=100)
