"""Payloads of a claim, read: jobs of batch functions, jobs that arq itself runs, and ids that nobody can read."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from typing import Final

from arq.jobs import (
    DeserializationError,
    Deserializer,
    SerializationError,
    Serializer,
    deserialize_job_raw,
    serialize_result,
)
from arq.utils import timestamp_ms

from normalizer.queue.group import ClaimedJob
from normalizer.queue.leases import Claim, ClaimedPayload
from normalizer.queue.serializer import MAX_PICKLE_BYTES

TOO_LARGE: Final = f"o conteúdo do job tem mais que {MAX_PICKLE_BYTES} bytes; enfileire só o id"
DAMAGED: Final = "as chaves deste job no Redis não são do tipo que o arq grava; apague-as e enfileire de novo"


@dataclass(slots=True)
class ReadClaim:
    """What a claim took.

    Attributes:
        groups: jobs by the name of their batch function.
        others: looked like a batch function's, and are arq's to run, or to fail with its reason.
        stock: ids and scores of jobs that arq runs.
        damaged: ids that are no text; their jobs cannot be told from outside.
    """

    groups: dict[str, list[ClaimedJob]] = field(default_factory=dict)
    others: list[ClaimedPayload] = field(default_factory=list)
    stock: list[tuple[str, float]] = field(default_factory=list)
    damaged: list[bytes] = field(default_factory=list)


def read_claim(claim: Claim, functions: Container[str], deserializer: Deserializer | None) -> ReadClaim:
    """Read what a claim took; `functions` are the batch functions."""
    read = ReadClaim()
    for job_id, score in claim.stock:
        if (name := _text(job_id)) is None:
            read.damaged.append(job_id)
        else:
            read.stock.append((name, score))
    for claimed in claim.group:
        if (name := _text(claimed.job_id)) is None:
            read.damaged.append(claimed.job_id)
        elif (job := _job(name, claim, claimed, deserializer)) is None or job.function not in functions:
            read.others.append(claimed)
        else:
            read.groups.setdefault(job.function, []).append(job)
    return read


def _job(job_id: str, claim: Claim, claimed: ClaimedPayload, deserializer: Deserializer | None) -> ClaimedJob | None:
    try:
        name, args, kwargs, tried, at_ms = deserialize_job_raw(claimed.payload, deserializer=deserializer)
        tries = max(claimed.tries, tried or 0) if claimed.tries else 0
        place = (claim.fence, claim.token, claimed.score, claimed.payload)
        return ClaimedJob(job_id, name, tuple(args), kwargs, tries, at_ms, *place)
    except (SerializationError, TypeError):  # arq fails it, and says why
        return None


def refusal(queue_name: str, job_id: str, why: str, serializer: Serializer | None) -> bytes | None:
    """The result of a job that could not be read."""
    now, error = timestamp_ms(), DeserializationError(why)
    where = (now, now, job_id, queue_name, job_id)
    return serialize_result("<unknown>", (), {}, 1, 0, False, error, *where, serializer=serializer)


def _text(job_id: bytes) -> str | None:
    """The id as arq writes it; None if it is no text."""
    try:
        return job_id.decode()
    except UnicodeDecodeError:
        return None
