"""The model client: one call about many records to an OpenAI-compatible endpoint, and what it takes.

Only this module knows the SDK. Its own retries are off (its defaults can take over half an hour); whoever calls decides
what an error is worth: `RateLimited` and `ProviderUnavailable` → later, `BatchRejected` → ask in halves,
`ProviderRefused` → stop. What an endpoint does not take is given up once, remembered in Redis for all replicas and
restarts, and forgotten after a week, because endpoints learn.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import orjson
import structlog

from normalizer.errors import (
    BatchRejected,
    Misconfigured,
    NormalizerError,
    ProviderFailed,
    ProviderRefused,
    ProviderTooSlow,
    ProviderUnavailable,
    RateLimited,
    UnusableAnswer,
)
from normalizer.llm.answer import FIX, NOTHING_USED, Answer, Usage, error_of, read_answer, words
from normalizer.llm.prompt import Record, build_messages, response_schema
from normalizer.observability.tracing import span
from normalizer.queue.connection import OUTAGE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

    import openai
    from redis.asyncio import Redis

__all__ = ["CONTROL", "OPENAI_URL", "Answer", "LlmClient", "Mode", "Usage"]

log = structlog.get_logger(__name__)

OPENAI_URL: Final = "https://api.openai.com/v1"
CONTROL: Final = Record.of("Jardim Aurora, 12, rua das Acácias, SP, Campinas")
"""The control question: a made-up address. Where it is refused, the endpoint refuses everything, not a text."""
_KEPT_S: Final = 7 * 86_400
_REDIS_S: Final = 2.0
_FLEX_PAUSE_S: Final = 1.0  # after two refusals in a row, doubled by each more: one alone is a short shortage
_LONGEST_FLEX_PAUSE_S: Final = 600.0
_CONTROL_TOKENS_OUT: Final = 200
_GREETING: Final = ({"role": "user", "content": "Oi"},)
_ABOUT_SHAPE: Final = ("response_format", "json_schema", "json_object", "structured output", "grammar")
_OPTIONAL: Final = ("reasoning_effort", "reasoning", "temperature", "store", "service_tier")
_TOKEN_LIMITS: Final = ("max_tokens", "max_completion_tokens")
_NOT_TAKEN: Final = re.compile(r"unsupported|not supported|unknown|unrecogni|unexpected|not permitted|instead|extra")


Messages: TypeAlias = "Sequence[Mapping[str, str]]"


class Mode(StrEnum):
    """How the endpoint is told the shape of an answer, best first."""

    STRICT = "json_schema"
    JSON = "json_object"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class EndpointCapabilities:
    """How one endpoint and model must be asked.

    Attributes:
        mode: how it is told the shape of an answer.
        without: the options it does not take.
        renamed: it takes the other name of the token limit (`max_tokens`, `max_completion_tokens`) than is usual there.
    """

    mode: Mode = Mode.STRICT
    without: frozenset[str] = frozenset()
    renamed: bool = False


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Raise RateLimited, ProviderTooSlow, another ProviderUnavailable, BatchRejected or ProviderRefused."""
    import openai

    try:
        yield
    except (TimeoutError, openai.APITimeoutError):
        raise ProviderTooSlow("the provider did not answer in time") from None
    except openai.APIStatusError as error:
        raise error_of(error.status_code, body_of(error), error.response.headers) from None
    except openai.OpenAIError as error:  # connection, a body that breaks off
        raise ProviderUnavailable(f"no usable answer from the provider ({type(error).__name__})") from None


def body_of(error: openai.APIStatusError) -> Any:
    """The body of an error answer, as JSON where it is JSON, else as text."""
    return error.body if error.body is not None else error.response.text


class LlmClient:
    """Asks one model. Safe to share between tasks; close it once.

    Args:
        api_key, model, base_url: whom to ask; `base_url` None is OpenAI's own.
        mode: how the shape of answers is asked for first; what the endpoint does not take is given up.
        memory: what was found out before, so that it is not asked again after a restart.
        timeout_s: no call takes longer.
        http_client: for tests.

    Raises Misconfigured where no client can be made of these, or of the proxies the environment names.
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
        import openai

        self.model, self.url = model, (base_url or OPENAI_URL).rstrip("/")
        self.capabilities = EndpointCapabilities(mode)
        self._memory, self._recalled, self._recalling = memory, memory is None, asyncio.Lock()
        self._kept: EndpointCapabilities | None = None
        self._has_answered = self._has_asked_plainer = False
        self._timeout_s = timeout_s
        self._options = _options(self.url, model)
        self._flex = FlexTier(memory)
        try:
            http_client = http_client or openai.DefaultAsyncHttpxClient(follow_redirects=False)
            # No limit of the SDK's own: it would end a call that was given longer.
            self._sdk = openai.AsyncOpenAI(
                api_key=api_key, base_url=self.url, max_retries=0, timeout=None, http_client=http_client
            )
        except (ImportError, ValueError, TypeError) as error:  # a proxy of a kind that is not supported, no URL at all
            problem = f"OPENAI_BASE_URL ou o proxy (HTTPS_PROXY, ALL_PROXY) não serve ({type(error).__name__})."
            fix = "Use um endereço http(s)://…/v1 e um proxy http://; proxy SOCKS não é aceito."
            raise Misconfigured(problem, fix=fix) from None

    async def complete(
        self, records: Sequence[Record], *, max_tokens_out: int, timeout_s: float | None = None, flex: bool = False
    ) -> Answer:
        """Ask about `records` in one call; with `flex` by the half-price tier, and by the default one if it is refused.

        Raises RateLimited, ProviderUnavailable (also when `timeout_s` has passed), BatchRejected or ProviderRefused.
        A refusal is an Answer, because it is paid for and may still hold records.
        """
        with span("model.call", alone=True, model=self.model, records=len(records)) as facts:
            await self._recall()
            ask = partial(self._ask, build_messages(records), max_tokens_out, records=len(records))
            answer = await self._by_either_tier(ask, timeout_s or self._timeout_s, flex=flex)
            self._has_answered = True
            await self._remember()
            facts |= {"tokens_in": answer.usage.tokens_in, "tokens_out": answer.usage.tokens_out}
            facts["finish"] = answer.finish
            return answer

    async def ask_control(self, *, timeout_s: float) -> Answer:
        """Ask the control question; of an endpoint that never answered yet plainer and plainer, until it does.

        Raises like `complete`: then no text is to blame.
        """
        before, spent = self.capabilities, NOTHING_USED
        while True:
            try:
                answer = await self.complete([CONTROL], max_tokens_out=_CONTROL_TOKENS_OUT, timeout_s=timeout_s)
            except NormalizerError as error:
                error.usage = spent = spent + (error.usage or NOTHING_USED)
                blames_form = isinstance(error, BatchRejected | ProviderFailed)
                if not blames_form or self._has_answered or not self._ask_plainer():
                    self.capabilities = before
                    raise
            else:
                return replace(answer, usage=spent + answer.usage)

    async def greet(self, *, timeout_s: float) -> Answer:
        """Ask for one token: what it says does not matter, only that key, URL and model are taken.

        Raises like `complete`, but not UnusableAnswer: a single token need not be an answer.
        """
        await self._recall()
        try:
            return await self._ask(_GREETING, 1, timeout_s, records=0)
        except UnusableAnswer as error:
            return Answer((), error.usage or NOTHING_USED, 0.0)

    async def has_answered(self) -> bool:
        """Whether this endpoint has answered for this model, here or, within a week, anywhere."""
        await self._recall()
        return self._has_answered

    async def models(self, *, timeout_s: float = 10.0) -> list[str]:
        """Return the model names the endpoint lists: costs nothing. Raises like `complete`."""
        listed = (await self._look_up(self._sdk.models.with_raw_response.list(), timeout_s)).get("data")
        return [str(entry["id"]) for entry in listed or () if isinstance(entry, dict) and "id" in entry]

    async def offers_model(self, *, timeout_s: float = 10.0) -> bool:
        """Whether the endpoint says that it has this model, by name or in its list: costs nothing. Many do not say."""
        with contextlib.suppress(NormalizerError):
            named = await self._look_up(self._sdk.models.with_raw_response.retrieve(self.model), timeout_s)
            if named.get("id") == self.model:
                return True
        with contextlib.suppress(NormalizerError):
            return self.model in await self.models(timeout_s=timeout_s)
        return False

    async def close(self) -> None:
        """Close the connections."""
        await self._sdk.close()

    async def _by_either_tier(self, ask: Callable[..., Awaitable[Answer]], timeout_s: float, *, flex: bool) -> Answer:
        """The answer of the half-price tier, asked for first with half the time, or of the default one."""
        started, spent = time.monotonic(), NOTHING_USED
        if flex and "service_tier" not in self.capabilities.without and await self._flex.may_ask():
            try:
                answer = await ask(timeout_s / 2, flex=True)
            except (RateLimited, ProviderUnavailable) as error:
                spent = error.usage or NOTHING_USED
                await self._flex.refused()
            else:
                self._flex.served()
                return answer
        answer = await ask(timeout_s - (time.monotonic() - started))
        return replace(answer, usage=spent + answer.usage)

    async def _ask(
        self, messages: Messages, max_tokens_out: int, timeout_s: float, *, records: int, flex: bool = False
    ) -> Answer:
        started, sent_chars = time.monotonic(), sum(len(message["content"]) for message in messages)
        with translated():
            async with asyncio.timeout(timeout_s):
                response = await self._send(messages, max_tokens_out, records, flex=flex)
        return read_answer(
            _json(response, sent_chars=sent_chars),
            records=records,
            sent_chars=sent_chars,
            seconds=time.monotonic() - started,
            headers={k.lower(): v for k, v in response.headers.items() if k.lower().startswith("x-ratelimit-")},
        )

    async def _look_up(self, listing: Awaitable[Any], timeout_s: float) -> dict[str, Any]:
        with translated():
            async with asyncio.timeout(timeout_s):
                body = _json((await listing).http_response)
        return body if isinstance(body, dict) else {}

    async def _recall(self) -> None:
        """Start where an earlier process ended."""
        async with self._recalling:
            if self._recalled or self._memory is None:
                return
            if (known := await self._memory.recall()) is not None:
                self._kept = self.capabilities = known
                self._has_answered = True
            self._recalled = True

    async def _remember(self) -> None:
        """Keep what an answer has proved, unless it is known already."""
        if self._memory is not None and self._kept != self.capabilities:
            self._kept = self.capabilities
            await self._memory.remember(self._kept)

    async def _send(self, messages: Messages, max_tokens_out: int, records: int, *, flex: bool) -> Any:
        """Send, and learn once what this endpoint does not take: schema, then JSON mode, then optional parameters."""
        import openai

        while True:
            asked, request = self.capabilities, self._request(messages, max_tokens_out, records, flex=flex)
            try:
                return (await self._sdk.chat.completions.with_raw_response.create(**request)).http_response
            except (openai.BadRequestError, openai.UnprocessableEntityError, openai.InternalServerError) as error:
                if (found := self._without_what_it_refuses(error, asked, request)) is None:
                    raise
                if self.capabilities == asked:  # calls under way at the same time complain of the same thing
                    self.capabilities = found
                    log.warning("llm.endpoint.learned", mode=found.mode.value, without=sorted(found.without))

    def _request(self, messages: Messages, max_tokens_out: int, records: int, *, flex: bool) -> dict[str, Any]:
        """Model, messages, the options that the endpoint takes, and the shape of an answer to so many records."""
        known = self.capabilities
        request: dict[str, Any] = {"model": self.model, "messages": messages, **self._options}
        request = {name: value for name, value in request.items() if name not in known.without}
        if extra := request.get("extra_body"):
            request["extra_body"] = {name: value for name, value in extra.items() if name not in known.without}
        request[self._token_limit(known)] = max_tokens_out
        if flex and "service_tier" not in known.without:
            request["service_tier"] = "flex"
        if records and known.mode is Mode.STRICT:
            schema = {"name": "addresses", "strict": True, "schema": response_schema(records)}
            request["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif records and known.mode is Mode.JSON:
            request["response_format"] = {"type": "json_object"}
        return request

    def _token_limit(self, known: EndpointCapabilities) -> str:
        usual = "max_completion_tokens" if self.url == OPENAI_URL else "max_tokens"
        return next(name for name in _TOKEN_LIMITS if (name != usual) is known.renamed)

    def _without_what_it_refuses(
        self, error: openai.APIStatusError, asked: EndpointCapabilities, request: Mapping[str, Any]
    ) -> EndpointCapabilities | None:
        """Drop what the endpoint says it does not support; None if its complaint is about something else."""
        body = body_of(error)
        complaint = (json.dumps(body, ensure_ascii=False) if isinstance(body, dict | list) else str(body)).lower()
        if asked.mode is not Mode.TEXT and any(word in complaint for word in _ABOUT_SHAPE):
            return replace(asked, mode=_plainer(asked.mode))
        if error.status_code >= 500:
            return None
        limit = self._token_limit(asked)
        if not asked.renamed and re.search(rf"\b{limit}\b", complaint) and _NOT_TAKEN.search(complaint):
            return replace(asked, renamed=True)
        sent = {*request, *request.get("extra_body", {})}
        refused = (name for name in _OPTIONAL if name in sent and re.search(rf"\b{name}\b", complaint))
        name = next(refused, None)
        return None if name is None else replace(asked, without=asked.without | {name})

    def _ask_plainer(self) -> bool:
        """Give up one more thing of an endpoint that refuses without a word why; False once there is nothing left."""
        known = self.capabilities
        if self._has_asked_plainer or (known.mode is Mode.TEXT and known.without >= set(_OPTIONAL)):
            self._has_asked_plainer = True
            return False
        if known.mode is not Mode.TEXT:
            self.capabilities = replace(known, mode=_plainer(known.mode))
        else:
            self.capabilities = replace(known, without=frozenset(_OPTIONAL))
        return True


def _plainer(mode: Mode) -> Mode:
    return Mode.JSON if mode is Mode.STRICT else Mode.TEXT


def _json(response: Any, *, sent_chars: int = 0) -> Any:
    """The body as JSON, in whichever encoding. Raises ProviderRefused for a web page, UnusableAnswer for the rest."""
    content: bytes = response.content
    for read in (orjson.loads, lambda raw: json.loads(raw.decode("latin-1"))):
        try:
            return read(content)
        except ValueError:
            continue
    error: NormalizerError
    if "html" in response.headers.get("content-type", "") or content.lstrip().startswith(b"<"):
        error = ProviderRefused("OPENAI_BASE_URL devolve uma página da web em vez de uma resposta de IA.", fix=FIX)
    else:
        error = UnusableAnswer("corpo que não é JSON")
        error.usage = Usage(sent_chars // 4, len(content) // 4)
    error.said = words(content.decode("utf-8", "replace"))
    raise error


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


class CapabilityStore:
    """The capabilities of one endpoint and model, in Redis. Redis being away raises nothing: they are found out anew.

    Args:
        redis: shared by all replicas.
        name: endpoint and model. Never the key.
    """

    def __init__(self, redis: Redis, name: str) -> None:
        self._redis, self._key, self._flex_key = redis, f"norm:endpoint:{name}", f"norm:flex:{name}"

    async def recall(self) -> EndpointCapabilities | None:
        """Return what is known, or None."""
        stored = await self._reply(self._redis.get(self._key))
        try:
            known = orjson.loads(stored or b"{}")
            without = frozenset(map(str, known["without"]))
            return EndpointCapabilities(Mode(known["mode"]), without, bool(known.get("renamed")))
        except (ValueError, KeyError, TypeError):
            return None

    async def remember(self, capabilities: EndpointCapabilities) -> None:
        """Keep what was found out."""
        found = {"mode": capabilities.mode, "without": sorted(capabilities.without), "renamed": capabilities.renamed}
        await self._reply(self._redis.set(self._key, orjson.dumps(found), ex=_KEPT_S))

    async def refuse_flex(self, for_s: float) -> None:
        """Keep for all replicas that the half-price tier is refused for now."""
        await self._reply(self._redis.set(self._flex_key, b"1", px=int(1000 * for_s)))

    async def flex_is_refused(self) -> bool:
        """Tell whether any replica was refused the half-price tier a short while ago."""
        return bool(await self._reply(self._redis.exists(self._flex_key)))

    async def _reply(self, command: Awaitable[Any]) -> Any:
        """What Redis says; None when it is away."""
        try:
            async with asyncio.timeout(_REDIS_S):
                return await command
        except OUTAGE as error:
            log.warning("llm.endpoint.redis_away", error=type(error).__name__)
            return None


class FlexTier:
    """Whether the half-price tier may be asked for: not for a while after refusals in a row."""

    def __init__(self, store: CapabilityStore | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._store, self._clock = store, clock
        self._refusals, self._not_before = 0, 0.0

    async def may_ask(self) -> bool:
        """Tell whether this endpoint may be tried, by what all replicas know."""
        if self._clock() < self._not_before:
            return False
        return self._store is None or not await self._store.flex_is_refused()

    async def refused(self) -> None:
        """It was refused, or too slow."""
        self._refusals += 1
        if self._refusals == 1:
            return
        pause_s = min(_LONGEST_FLEX_PAUSE_S, _FLEX_PAUSE_S * 2.0 ** min(self._refusals - 2, 10))
        self._not_before = self._clock() + pause_s
        log.info("llm.flex.refused", pause_s=pause_s)
        if self._store is not None:
            await self._store.refuse_flex(pause_s)

    def served(self) -> None:
        """It answered."""
        self._refusals = 0
