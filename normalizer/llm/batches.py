"""The provider's Batch API: files up, batches made and found again, results down. Half price, within 24 hours.

A batch carries our own id as metadata, and its file carries it in its name: what was made by a process that died before
it could write down the provider's id is found by listing. (OpenAI, "Batch API": 50,000 requests and 200 MB a batch.)
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import openai

from normalizer.errors import BatchRejected, NoBatchLane
from normalizer.llm.client import OPENAI_URL
from normalizer.llm.translation import translated

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

_TAG: Final = "normalizer_batch"
_NOT_THERE: Final = frozenset({404, 405, 501})
_CALL_S: Final = 60.0
_TRANSFER_S: Final = 300.0
_KEPT_S: Final = 3 * 86_400
_ENDED: Final = frozenset({"completed", "expired", "cancelled", "failed"})
_FULL: Final = "token_limit_exceeded"


@dataclass(frozen=True, slots=True)
class BatchState:
    """How a batch stands at the provider.

    Attributes:
        ended: nothing more will come; `results` is the file of what was answered, if anything was.
        full: it was not begun, because too much of ours is in batches already: later the same may be taken.
        files: everything of it that is kept at the provider.
    """

    status: str
    ended: bool = False
    results: str | None = None
    full: bool = False
    files: tuple[str, ...] = ()


class BatchApi:
    """Files and batches of one account. Close it once.

    Every method raises RateLimited, ProviderUnavailable or ProviderRefused; where the endpoint takes no batches,
    NoBatchLane.
    """

    def __init__(self, *, api_key: str, base_url: str | None = None, http_client: Any = None) -> None:
        self._url = (base_url or OPENAI_URL).rstrip("/")
        self._sdk = openai.AsyncOpenAI(
            api_key=api_key, base_url=self._url, max_retries=0, timeout=_TRANSFER_S, http_client=http_client
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._sdk.close()

    async def check(self) -> None:
        """Ask whether there is a Batch API, by a call that costs nothing."""
        with _offered():
            async with asyncio.timeout(_CALL_S):
                await self._sdk.batches.list(limit=1)

    async def upload(self, batch_id: str, content: bytes) -> str:
        """Upload the file of our batch; returns the file's id. It expires by itself, should nobody delete it."""
        # Only OpenAI's own is known to take an expiry.
        expiry: dict[str, Any] = (
            {"expires_after": {"anchor": "created_at", "seconds": _KEPT_S}} if self._url == OPENAI_URL else {}
        )
        with _offered():
            async with asyncio.timeout(_TRANSFER_S):
                found = await self._sdk.files.create(file=(_file_name(batch_id), content), purpose="batch", **expiry)
        return found.id

    async def find_file(self, batch_id: str, *, since_s: float) -> str | None:
        """The file of our batch, if one made after `since_s` (Unix time) was uploaded."""
        with _offered():
            async with asyncio.timeout(_CALL_S):
                async for file in self._sdk.files.list(purpose="batch", order="desc", limit=100):
                    if file.filename == _file_name(batch_id):
                        return file.id
                    if file.created_at < since_s:
                        break
        return None

    async def create(self, batch_id: str, file_id: str) -> str:
        """Make the batch; returns the provider's id. NoBatchLane also when this model takes no batches."""
        try:
            with _offered():
                async with asyncio.timeout(_CALL_S):
                    made = await self._sdk.batches.create(
                        input_file_id=file_id,
                        endpoint="/v1/chat/completions",
                        completion_window="24h",
                        metadata={_TAG: batch_id},
                    )
        except BatchRejected as error:
            raise NoBatchLane("the provider takes no such batch") from error
        return made.id

    async def find(self, batch_id: str, *, since_s: float) -> str | None:
        """The provider's id of our batch, if one was made after `since_s` (Unix time)."""
        with _offered():
            async with asyncio.timeout(_CALL_S):
                async for batch in self._sdk.batches.list(limit=100):
                    if (batch.metadata or {}).get(_TAG) == batch_id:
                        return batch.id
                    if batch.created_at < since_s:
                        break
        return None

    async def state(self, provider_id: str) -> BatchState:
        """How the batch stands; one the provider does not know (any more) has ended without results."""
        with translated():
            try:
                async with asyncio.timeout(_CALL_S):
                    return _state(await self._sdk.batches.retrieve(provider_id))
            except openai.NotFoundError:
                return BatchState("gone", ended=True)

    async def results(self, file_id: str, *, skip: int = 0) -> AsyncIterator[str]:
        """The lines of a results file, but the first `skip`."""
        number = 0
        with translated():
            async with self._sdk.files.with_streaming_response.content(file_id) as response:
                async for line in response.iter_lines():
                    if line.strip():
                        number += 1
                        if number > skip:
                            yield line

    async def cancel(self, provider_id: str) -> None:
        """Stop a batch; one that has ended or is gone stays as it is."""
        with translated(), suppress(openai.NotFoundError, openai.BadRequestError, openai.ConflictError):
            async with asyncio.timeout(_CALL_S):
                await self._sdk.batches.cancel(provider_id)

    async def delete(self, file_id: str) -> None:
        """Delete a file; one that is gone already is no error."""
        with translated(), suppress(openai.NotFoundError):
            async with asyncio.timeout(_CALL_S):
                await self._sdk.files.delete(file_id)


@contextmanager
def _offered() -> Iterator[None]:
    """As `translated`; an address the endpoint does not serve raises NoBatchLane."""
    with translated():
        try:
            yield
        except openai.APIStatusError as error:
            if error.status_code in _NOT_THERE:
                raise NoBatchLane(f"the endpoint has no Batch API ({error.status_code})") from None
            raise


def _state(batch: Any) -> BatchState:
    codes = {problem.code for problem in (batch.errors.data or [])} if batch.errors else set()
    files = (batch.input_file_id, batch.output_file_id, batch.error_file_id)
    return BatchState(
        batch.status,
        ended=batch.status in _ENDED,
        results=batch.output_file_id,
        full=batch.status == "failed" and _FULL in codes,
        files=tuple(file for file in files if file),
    )


def _file_name(batch_id: str) -> str:
    return f"normalizer-{batch_id}.jsonl"
