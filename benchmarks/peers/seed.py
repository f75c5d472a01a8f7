"""The worker that is replaced, in its best honest form: stock `arq.Worker`, one job a row, one call a field.

`python -m benchmarks.peers.seed` runs it as a process of its own, configured by the deployed system's environment.
"""

from __future__ import annotations

from typing import Any

import bson

from benchmarks.peers import asking, records
from benchmarks.peers.stock import worker
from normalizer.settings import load_settings


async def normalize_appointment(ctx: dict[str, Any], appointment_id: str) -> str:
    """Load one appointment, ask the model once for each of its texts, save."""
    collection, create = ctx["collection"], ctx["create"]
    key = {"_id": bson.ObjectId(appointment_id)}
    texts = records.texts(await collection.find_one(key))
    found = {kind: asking.answer(await create(**asking.one_text(kind, text))) for kind, text in texts.items()}
    await collection.update_one(key, records.change(found))
    return appointment_id


if __name__ == "__main__":
    worker(load_settings(), normalize_appointment).run()
