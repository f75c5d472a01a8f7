"""The simulated provider's files and batches: uploaded, worked off all at once when their time has come, downloaded.

A batch ends `batch_s` after it was made; with a negative `batch_s` only `POST /batches/end` ends it, with the status,
the number of requests answered and the error code given there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from email.parser import BytesParser
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from benchmarks.provider.model import Provider
from benchmarks.provider.replies import error

_MAX_REQUESTS = 50_000
_MAX_BYTES = 200 * 2**20
_UNDER_WAY = ("validating", "in_progress", "finalizing", "cancelling")


@dataclass(slots=True)
class File:
    """An uploaded or a written file."""

    id: str
    name: str
    content: bytes
    purpose: str = "batch"
    made_at: int = field(default_factory=lambda: int(time.time()))

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "file",
            "bytes": len(self.content),
            "created_at": self.made_at,
            "filename": self.name,
            "purpose": self.purpose,
            "status": "processed",
        }


@dataclass(slots=True)
class Batch:
    """A batch and where it stands."""

    id: str
    input_file: str
    metadata: dict[str, str]
    lines: list[dict[str, Any]]
    ends_at: float
    status: str = "in_progress"
    output_file: str | None = None
    error_file: str | None = None
    answered: int = 0
    failed: int = 0
    errors: list[dict[str, Any]] = field(default_factory=list)
    made_at: int = field(default_factory=lambda: int(time.time()))

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "created_at": self.made_at,
            "expires_at": self.made_at + 86_400,
            "input_file_id": self.input_file,
            "metadata": self.metadata,
            "status": self.status,
            "output_file_id": self.output_file,
            "error_file_id": self.error_file,
            "errors": {"object": "list", "data": self.errors} if self.errors else None,
            "request_counts": {"total": len(self.lines), "completed": self.answered, "failed": self.failed},
        }


class Batches:
    """Files and batches of one provider."""

    def __init__(self, provider: Provider, clock: Callable[[], float] = time.monotonic) -> None:
        self._provider, self._clock = provider, clock
        self.reset()

    def reset(self) -> None:
        """Forget every file and batch."""
        self._files: dict[str, File] = {}
        self._batches: dict[str, Batch] = {}
        self._made = 0

    def stats(self) -> dict[str, int]:
        """How many batches were ever made, and how many files are kept."""
        return {"batches": len(self._batches), "files": len(self._files)}

    def routes(self) -> list[Route]:
        """What is served."""
        return [
            Route("/v1/files", self._guarded("files", self._upload), methods=["POST"]),
            Route("/v1/files", self._guarded("files", self._list_files), methods=["GET"]),
            Route("/v1/files/{id}", self._guarded("files", self._delete), methods=["DELETE"]),
            Route("/v1/files/{id}/content", self._guarded("content", self._content)),
            Route("/v1/batches", self._guarded("batches", self._create), methods=["POST"]),
            Route("/v1/batches", self._guarded("batches", self._list_batches), methods=["GET"]),
            Route("/v1/batches/{id}", self._guarded("batches", self._retrieve)),
            Route("/v1/batches/{id}/cancel", self._guarded("batches", self._cancel), methods=["POST"]),
            Route("/batches/end", self._end, methods=["POST"]),
        ]

    def _guarded(self, path: str, answer: Callable[[Request], Any]) -> Callable[[Request], Any]:
        """Faults of this path: `status` before anything is done, `drop_connection` after it was done."""

        async def guarded(request: Request) -> Response:
            if not self._provider.options.batches:
                return error(404, "not_found", None)
            fault = self._provider.path_fault(path, request.method)
            if fault is not None and fault.kind == "status":
                return error(fault.status, fault.code or "simulated_fault", fault.retry_after_s)
            response: Response = await answer(request)
            if fault is not None and fault.kind == "drop_connection":
                return Response(b"{", headers={"content-length": "1000"})
            response.headers["x-simulated"] = "true"
            return response

        return guarded

    async def _upload(self, request: Request) -> Response:
        body = await request.body()
        if len(body) > _MAX_BYTES:
            return error(413, "file_too_large", None)
        parts = _form(request.headers["content-type"], body)
        given = parts["file"]
        content = given.get_payload(decode=True)
        purpose = parts["purpose"].get_payload(decode=True)
        assert isinstance(content, bytes)
        assert isinstance(purpose, bytes)
        return JSONResponse(self._keep(given.get_filename() or "file", content, purpose.decode().strip()).as_dict())

    async def _list_files(self, request: Request) -> Response:
        purpose = request.query_params.get("purpose")
        found = [file for file in self._files.values() if purpose in {None, file.purpose}]
        return _page([file.as_dict() for file in reversed(found)], request)

    async def _delete(self, request: Request) -> Response:
        file = self._files.pop(request.path_params["id"], None)
        if file is None:
            return error(404, "not_found", None)
        return JSONResponse({"id": file.id, "object": "file", "deleted": True})

    async def _content(self, request: Request) -> Response:
        file = self._files.get(request.path_params["id"])
        return error(404, "not_found", None) if file is None else Response(file.content)

    async def _create(self, request: Request) -> Response:
        body = await request.json()
        file = self._files.get(body["input_file_id"])
        if file is None:
            return error(400, "invalid_file", None, param="input_file_id")
        lines = [json.loads(line) for line in file.content.splitlines() if line.strip()]
        if not 0 < len(lines) <= _MAX_REQUESTS or len({line["custom_id"] for line in lines}) < len(lines):
            return error(400, "invalid_batch", None)
        self._made += 1
        id_ = f"batch_simulated_{self._made}"
        ends_at = (
            self._clock() + self._provider.options.batch_s if self._provider.options.batch_s >= 0 else float("inf")
        )
        self._batches[id_] = Batch(id_, file.id, dict(body.get("metadata") or {}), lines, ends_at)
        return JSONResponse(self._batches[id_].as_dict())

    async def _list_batches(self, request: Request) -> Response:
        return _page([self._now(batch).as_dict() for batch in reversed(self._batches.values())], request)

    async def _retrieve(self, request: Request) -> Response:
        batch = self._batches.get(request.path_params["id"])
        return error(404, "not_found", None) if batch is None else JSONResponse(self._now(batch).as_dict())

    async def _cancel(self, request: Request) -> Response:
        batch = self._batches.get(request.path_params["id"])
        if batch is None:
            return error(404, "not_found", None)
        if batch.status in _UNDER_WAY:
            self._finish(batch, "cancelled", answered=0)
        return JSONResponse(batch.as_dict())

    async def _end(self, request: Request) -> Response:
        how = await request.json()
        ended = [batch for batch in self._batches.values() if batch.status in _UNDER_WAY]
        for batch in ended:
            if how.get("status") == "failed":
                batch.errors = [
                    {"code": how.get("code", "invalid"), "message": "simulated", "line": None, "param": None}
                ]
            self._finish(batch, how.get("status", "completed"), answered=how.get("answered"))
        return JSONResponse({"simulated": True, "ended": len(ended)})

    def _now(self, batch: Batch) -> Batch:
        if batch.status in _UNDER_WAY and self._clock() >= batch.ends_at:
            self._finish(batch, "completed")
        return batch

    def _finish(self, batch: Batch, status: str, answered: int | None = None) -> None:
        batch.status = status
        if status == "failed":
            return
        good: list[dict[str, Any]] = []
        bad: list[dict[str, Any]] = []
        for number, line in enumerate(batch.lines):
            if answered is not None and number >= answered:
                bad.append(_line(line, None, {"code": f"batch_{status}", "message": "simulated"}))
                continue
            reply = self._provider.complete_batched(line["body"])
            (good if reply.status_code == 200 else bad).append(_line(line, reply, None))
        batch.answered, batch.failed = len(good), len(bad)
        batch.output_file = self._keep(f"{batch.id}_output.jsonl", _joined(good), "batch_output").id if good else None
        batch.error_file = self._keep(f"{batch.id}_error.jsonl", _joined(bad), "batch_output").id if bad else None

    def _keep(self, name: str, content: bytes, purpose: str) -> File:
        self._made += 1
        file = File(f"file-simulated-{self._made}", name, content, purpose)
        self._files[file.id] = file
        return file


def _line(asked: dict[str, Any], reply: Response | None, failure: dict[str, str] | None) -> dict[str, Any]:
    response = None
    if reply is not None:
        response = {"status_code": reply.status_code, "request_id": "simulated", "body": json.loads(bytes(reply.body))}
    custom_id = asked["custom_id"]
    return {"id": f"batch_req_{custom_id}", "custom_id": custom_id, "response": response, "error": failure}


def _joined(lines: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()


def _page(items: list[dict[str, Any]], request: Request) -> Response:
    """Newest first, as OpenAI pages: `after` an id, at most `limit`."""
    limit, after = int(request.query_params.get("limit", 20)), request.query_params.get("after")
    ids = [item["id"] for item in items]
    start = ids.index(after) + 1 if after in ids else 0
    page = items[start : start + limit]
    more = start + limit < len(items)
    return JSONResponse(
        {
            "object": "list",
            "data": page,
            "has_more": more,
            "first_id": page[0]["id"] if page else None,
            "last_id": page[-1]["id"] if page else None,
        }
    )


def _form(content_type: str, body: bytes) -> dict[str, Message]:
    """The parts of a multipart form by name."""
    whole = BytesParser().parsebytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    return dict(_named(whole))


def _named(whole: Message) -> Iterator[tuple[str, Message]]:
    for part in whole.walk():
        name = part.get_param("name", header="content-disposition")
        if isinstance(name, str):
            yield name, part
