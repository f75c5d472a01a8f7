"""One batched call to an OpenAI-compatible endpoint. Only this module and `translation` know its SDK.

The SDK's own retries are off (its defaults can take over half an hour); whoever calls decides what an error is worth:
`RateLimited` and `ProviderUnavailable` → later, `BatchRejected` → ask in halves, `ProviderRefused` → stop.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import openai
import structlog

from normalizer.errors import ProviderUnavailable
from normalizer.llm.endpoint import EndpointCapabilities, Mode
from normalizer.llm.prompt import Record, Segments, build_messages, parse_answer, response_schema
from normalizer.llm.provider_errors import body_error, detail, translated
from normalizer.observability.tracing import span

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from normalizer.llm.endpoint import CapabilityStore

__all__ = ["OPENAI_URL", "Answer", "LlmClient", "Mode", "Usage"]

log = structlog.get_logger(__name__)

OPENAI_URL: Final = "https://api.openai.com/v1"
_ABOUT_SHAPE: Final = ("response_format", "json_schema", "json_object", "structured output", "grammar")


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call as the provider counts them; `cost_usd` where it says so itself (OpenRouter)."""

    tokens_in: int = 0
    tokens_out: int = 0
    cached_in: int = 0
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What one call brought: per record its segments or None, in the order asked."""

    slots: tuple[Segments | None, ...]
    usage: Usage
    seconds: float
    finish: str = "stop"
    """`stop`, `length` (cut short), `content_filter` or `refusal`."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """The `x-ratelimit-*` headers, lower case."""

    @property
    def refused(self) -> bool:
        """Tell whether the model declined to answer; what it did say before is kept."""
        return self.finish in {"content_filter", "refusal"}


class LlmClient:
    """Asks one model. Safe to share between tasks; close it once.

    Args:
        api_key, model, base_url: whom to ask; `base_url` None is OpenAI's own.
        mode: how the shape of answers is asked for first; what the endpoint does not take is given up.
        memory: what was found out before, so that it is not asked again after a restart.
        timeout_s: no call takes longer.
        http_client: for tests.
    """

    def __init__(
        self,
        *,
        api_key: str,
        model: str,
        base_url: str | None = None,
        mode: Mode = Mode.STRICT,
        memory: CapabilityStore | None = None,
        timeout_s: float = 60.0,
        http_client: Any = None,
    ) -> None:
        self.model, self.mode = model, mode
        self._memory, self._recalled, self._recalling = memory, memory is None, asyncio.Lock()
        self._kept: EndpointCapabilities | None = None
        self._dropped: frozenset[str] = frozenset()
        self._timeout_s = timeout_s
        self._url = (base_url or OPENAI_URL).rstrip("/")
        self._options = _options(self._url, model)
        self._sdk = openai.AsyncOpenAI(
            api_key=api_key, base_url=self._url, max_retries=0, timeout=timeout_s, http_client=http_client
        )

    async def complete(
        self, records: Sequence[Record], *, max_tokens_out: int, timeout_s: float | None = None
    ) -> Answer:
        """Ask about `records` in one call.

        Raises RateLimited, ProviderUnavailable (also when `timeout_s` has passed), BatchRejected or ProviderRefused.
        A refusal is an Answer, because it is paid for and may still hold records.
        """
        with span("model.call", alone=True, model=self.model, records=len(records)) as facts:
            answer = await self._complete(records, max_tokens_out, timeout_s)
            facts |= {"tokens_in": answer.usage.tokens_in, "tokens_out": answer.usage.tokens_out}
            facts["finish"] = answer.finish
            return answer

    async def _complete(self, records: Sequence[Record], max_tokens_out: int, timeout_s: float | None) -> Answer:
        await self._recall()
        started = time.monotonic()
        with translated():
            async with asyncio.timeout(timeout_s or self._timeout_s):
                raw = await self._send(records, max_tokens_out)
        await self._remember()
        return _answer(raw[0], raw[1], len(records), time.monotonic() - started)

    @property
    def capabilities(self) -> EndpointCapabilities:
        """How this endpoint is asked by now."""
        return EndpointCapabilities(self.mode, self._dropped)

    async def models(self, *, timeout_s: float = 10.0) -> list[str]:
        """Return the model names the endpoint lists (for `doctor`). Raises like `complete`."""
        with translated():
            async with asyncio.timeout(timeout_s):
                page = await self._sdk.models.list()
        return [entry.id for entry in page.data]

    async def close(self) -> None:
        """Close the connections."""
        await self._sdk.close()

    async def _recall(self) -> None:
        """Start where an earlier process ended."""
        async with self._recalling:
            if self._recalled or self._memory is None:
                return
            if (known := await self._memory.recall()) is not None:
                self._kept, self.mode, self._dropped = known, known.mode, known.without
                for name in known.without:
                    self._drop(name)
            self._recalled = True

    async def _remember(self) -> None:
        """Keep what an answer has proved, unless it is known already."""
        if self._memory is not None and self._kept != self.capabilities:
            self._kept = self.capabilities
            await self._memory.remember(self._kept)

    async def _send(self, records: Sequence[Record], max_tokens_out: int) -> tuple[Any, Mapping[str, str]]:
        """Send, and learn once what this endpoint does not take: schema, then JSON mode, then optional parameters."""
        while True:
            mode, request = self.mode, self._request(records, max_tokens_out)
            try:
                response = await self._sdk.chat.completions.with_raw_response.create(**request)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                if not self._give_up_something(error, mode, request):
                    raise
                continue
            limits = {k.lower(): v for k, v in response.headers.items() if k.lower().startswith("x-ratelimit-")}
            return response.parse(), limits

    def _request(self, records: Sequence[Record], max_tokens_out: int) -> dict[str, Any]:
        request: dict[str, Any] = {"model": self.model, "messages": build_messages(records), **self._options}
        request["max_completion_tokens" if self._url == OPENAI_URL else "max_tokens"] = max_tokens_out
        if self.mode is Mode.STRICT:
            schema = {"name": "addresses", "strict": True, "schema": response_schema(len(records))}
            request["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif self.mode is Mode.JSON:
            request["response_format"] = {"type": "json_object"}
        return request

    def _give_up_something(self, error: openai.APIStatusError, mode: Mode, request: Mapping[str, Any]) -> bool:
        """Drop what the endpoint says it does not support; False if its complaint is about something else.

        Calls under way at the same time complain of the same thing: only the first one's complaint changes anything.
        """
        complaint = f"{detail(error, 'param')} {detail(error, 'message')}".lower()
        if mode is not Mode.TEXT and any(word in complaint for word in _ABOUT_SHAPE):
            if self.mode is mode:
                self.mode = Mode.JSON if mode is Mode.STRICT else Mode.TEXT
                log.warning("llm.mode.downgraded", mode=self.mode.value)
            return True
        for name in ("reasoning_effort", "reasoning", "temperature", "store"):
            if name in complaint and (name in request or name in request.get("extra_body", {})):
                self._drop(name)
                return True
        return False

    def _drop(self, name: str) -> None:
        extra: Mapping[str, Any] = self._options.get("extra_body", {})
        if name not in self._options and name not in extra:
            return
        kept = {key: value for key, value in self._options.items() if key != name}
        if name in extra:
            kept["extra_body"] = {key: value for key, value in extra.items() if key != name}
        self._options, self._dropped = kept, self._dropped | {name}
        log.warning("llm.option.dropped", option=name)


def _options(url: str, model: str) -> dict[str, Any]:
    """Return the optional parameters this endpoint and model are known to take.

    Reasoning is off: it is billed as output and copying needs none (gpt-5.1 and later take "none", gpt-5 "minimal").
    """
    name = model.rsplit("/", 1)[-1]
    effort = None
    if name.startswith(("gpt-5", "gpt-6")) and "chat" not in name:
        effort = "none" if name.startswith(("gpt-5.", "gpt-6")) else "minimal"
    options: dict[str, Any] = {}
    if "openrouter.ai" in url:
        # Only endpoints that honour the schema, and none that keeps the texts (openrouter.ai/docs, provider routing).
        extra: dict[str, Any] = {"provider": {"require_parameters": True, "data_collection": "deny"}}
        options["extra_body"] = extra | ({"reasoning": {"effort": effort}} if effort else {})
    elif effort:
        options["reasoning_effort"] = effort
    if url == OPENAI_URL:
        options["store"] = False
    if effort is None and not name.startswith(("o1", "o3", "o4")):
        options["temperature"] = 0
    return options


def _answer(completion: Any, headers: Mapping[str, str], n: int, seconds: float) -> Answer:
    """Read a completion; endpoints behind a router also say 200 and put the error in the body."""
    problem = getattr(completion, "error", None)
    choices = getattr(completion, "choices", None) or []
    if not problem and choices:
        problem = getattr(choices[0], "error", None)
    if problem:
        raise body_error(problem)
    if not choices or getattr(choices[0], "message", None) is None:
        raise ProviderUnavailable("the endpoint sent an answer without a message")
    choice = choices[0]
    finish = "refusal" if getattr(choice.message, "refusal", None) else (choice.finish_reason or "stop")
    if finish == "error":
        raise ProviderUnavailable("the endpoint broke off its answer")
    slots = parse_answer(choice.message.content or "", n)
    return Answer(slots, _usage(completion), seconds, finish, headers)


def _usage(completion: Any) -> Usage:
    usage = getattr(completion, "usage", None)
    if usage is None:
        return Usage()
    details = getattr(usage, "prompt_tokens_details", None)
    cost = getattr(usage, "cost", None)
    return Usage(
        tokens_in=usage.prompt_tokens or 0,
        tokens_out=usage.completion_tokens or 0,
        cached_in=getattr(details, "cached_tokens", None) or 0,
        cost_usd=float(cost) if isinstance(cost, int | float) else None,
    )
