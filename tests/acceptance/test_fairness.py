"""Everybody works, and nobody waits behind an import."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from normalizer.queue.service import TaskService
from normalizer.store import AppointmentStore, ImportRow
from tests.acceptance.harness import make_rows, write_labels


def every_slot_works(deploy, *, replicas: int, slots: int):
    """Each slot holds a group: the model never answers, so that nobody can work twice."""
    items = 2
    rows = make_rows(replicas * slots * items, hard=1.0)
    settings = {"ARQ_MAX_JOBS": str(slots), "BATCH_MAX_ITEMS": str(items), "LEASE_S": "15"}
    deployment = deploy(rows=len(rows), hard=1.0, latency_ms=600_000, settings=settings)
    workers = [deployment.start_worker() for _ in range(replicas)]
    deployment.wait(lambda: all(map(deployment.beats, workers)), "every replica beats", timeout_s=100)
    deployment.put(rows)
    deployment.wait(lambda: deployment.claimed() == len(rows), "every row is in a group")
    deployment.wait(
        lambda: [deployment.groups(worker) for worker in workers] == [slots] * replicas,
        "every slot of every replica holds a group",
    )


def test_every_slot_of_every_replica_works(deploy):
    every_slot_works(deploy, replicas=4, slots=10)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_fourteen_replicas_with_ten_slots_each_all_work(deploy):
    every_slot_works(deploy, replicas=14, slots=10)


async def put_singly(deployment, rows):
    """As an API does: store each, and enqueue it singly."""
    async with (
        AppointmentStore.connect(deployment.mongo_url, deployment.database) as store,
        TaskService(deployment.redis_url) as tasks,
    ):
        for row in rows:
            report = await store.upsert_rows([ImportRow(row.key, row.fields)], "api")
            ((appointment_id, fingerprint),) = report.new.items()
            await tasks.enqueue(appointment_id, fingerprint=fingerprint)


async def ensure_indexes(deployment):
    async with AppointmentStore.connect(deployment.mongo_url, deployment.database) as store:
        await store.ensure_indexes()


def put_many(deployment, rows):
    """As a backend of its own would: its records, then their ids. Quicker than an import.

    The indexes come first: a durable store writes each entry of a later one to disk by itself.
    """
    asyncio.run(ensure_indexes(deployment))
    inserted = deployment.appointments.insert_many([{"id_agendamento": row.key, **row.fields} for row in rows])

    async def enqueue():
        async with TaskService(deployment.redis_url) as tasks:
            await tasks.enqueue_many(list(map(str, inserted.inserted_ids)))

    asyncio.run(enqueue())


def test_an_interactive_row_overtakes_an_import_of_ten_thousand(deploy, tmp_path):
    rows = make_rows(10_000, hard=0.01)
    for_rules = replace(make_rows(1, hard=0.0, seed=2)[0], key="for-rules")
    for_model = replace(make_rows(1, hard=1.0, seed=3)[0], key="for-model")
    labels = write_labels(tmp_path / "labels.jsonl", [*rows, for_rules, for_model])
    deployment = deploy(labels=labels, latency_ms=200)
    put_many(deployment, rows)
    deployment.start_ready_worker()
    deployment.wait(lambda: deployment.ended() > 0, "the import moves")

    ended, began = deployment.ended(), time.monotonic()
    asyncio.run(put_singly(deployment, [for_rules, for_model]))
    both = {"id_agendamento": {"$in": [for_rules.key, for_model.key]}, "normalizacao.status": "concluido"}
    deployment.wait(lambda: deployment.appointments.count_documents(both) == 2, "the interactive rows end")
    overtook = len(rows) + 2 - deployment.ended()

    assert overtook > 1_000, f"only {overtook} rows were left after {time.monotonic() - began:.1f} s"
    deployment.wait(lambda: deployment.ended() > ended + 2, "the import still moves")
