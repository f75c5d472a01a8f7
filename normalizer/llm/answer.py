"""Answers of an endpoint, read: records and usage, or the error it is instead, and what its headers state. Pure.

Endpoints send the shape in many variants (content in parts, errors in a 200, counts that are no numbers). What can be
read is read; everything else is one `UnusableAnswer` that names what came and carries what it cost. An error is
classed by what the caller may do next: later, in halves, or not at all until the operator acts. No message repeats a
provider's own words, because they may quote the request; `said` keeps them apart.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from normalizer.errors import (
    BatchRejected,
    NormalizerError,
    ProviderFailed,
    ProviderRefused,
    ProviderUnavailable,
    RateLimited,
    UnusableAnswer,
)
from normalizer.llm.prompt import Segments, parse_answer

ATE_ITS_TOKENS: Final = (
    "o modelo gastou os tokens em raciocínio e não respondeu: use um modelo sem raciocínio (OPENAI_MODEL)"
)
_CHARS_PER_TOKEN: Final = 4  # where the endpoint does not count, e.g. some local servers


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call as the provider counts them.

    Attributes:
        cost_usd: where the provider says it itself (OpenRouter).
        tier: the service tier that answered, where the answer names one.
        calls: answered calls this is the sum of.
    """

    tokens_in: int = 0
    tokens_out: int = 0
    cached_in: int = 0
    cost_usd: float | None = None
    tier: str | None = None
    calls: int = 1

    def __add__(self, other: Usage) -> Usage:
        costs = [cost for cost in (self.cost_usd, other.cost_usd) if cost is not None]
        return Usage(
            self.tokens_in + other.tokens_in,
            self.tokens_out + other.tokens_out,
            self.cached_in + other.cached_in,
            sum(costs) if costs else None,
            other.tier,
            self.calls + other.calls,
        )


NOTHING_USED: Final = Usage(calls=0)


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


def read_answer(body: Any, *, records: int, sent_chars: int, seconds: float, headers: Mapping[str, str]) -> Answer:
    """Read the body of an answer with status 200.

    Raises what `body_error` says of an error in it, and UnusableAnswer for what is no answer; `usage` is on both.
    """
    choices = _at(body, "choices")
    choice = choices[0] if isinstance(choices, list) and choices else {}
    text = _text(_at(choice, "message", "content"))
    usage = _usage(body, sent_chars, len(text))
    finish = "refusal" if _at(choice, "message", "refusal") else str(_at(choice, "finish_reason") or "stop")
    if (problem := _problem(body, choice, finish, text, usage)) is not None:
        problem.usage = usage
        raise problem
    return Answer(parse_answer(text, records), usage, seconds, finish, headers)


def _problem(body: Any, choice: Any, finish: str, text: str, usage: Usage) -> NormalizerError | None:
    if error := _at(body, "error") or _at(choice, "error"):
        return body_error(error)
    if finish == "error":
        return body_error({"message": "finish_reason: error"})
    if not isinstance(choice, dict) or not choice:
        return UnusableAnswer("resposta sem nenhuma escolha (choices)")
    if text or finish in {"content_filter", "refusal"}:
        return None
    reasoned = _count(_at(body, "usage", "completion_tokens_details", "reasoning_tokens"))
    if finish == "length" or reasoned > usage.tokens_out // 2 > 0:
        return UnusableAnswer(ATE_ITS_TOKENS)
    return UnusableAnswer("resposta vazia")


def _at(value: Any, *path: str) -> Any:
    """What stands at a path of objects; None where it ends before."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _text(content: Any) -> str:
    """Content as text: a string, or a list of parts as newer endpoints send it."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = (part.get("text") if isinstance(part, dict) else part for part in content)
    return "".join(part for part in parts if isinstance(part, str))


def _usage(body: Any, sent_chars: int, answered_chars: int) -> Usage:
    tier, said = _at(body, "service_tier"), _at(body, "usage")
    tier = tier if isinstance(tier, str) else None
    if not isinstance(said, dict):
        return Usage(sent_chars // _CHARS_PER_TOKEN, answered_chars // _CHARS_PER_TOKEN, tier=tier)
    cost = said.get("cost")
    return Usage(
        tokens_in=_count(said.get("prompt_tokens")),
        tokens_out=_count(said.get("completion_tokens")),
        cached_in=_count(_at(said, "prompt_tokens_details", "cached_tokens")),
        cost_usd=float(cost) if isinstance(cost, int | float) and not isinstance(cost, bool) else None,
        tier=tier,
    )


def _count(value: Any) -> int:
    return max(0, int(value)) if isinstance(value, int | float) and not isinstance(value, bool) else 0


FIX: Final = "Confira OPENAI_API_KEY, o saldo, OPENAI_MODEL e OPENAI_BASE_URL, e rode `normalizer doctor`."
_EVERY_TEXTS_CODES: Final = frozenset(
    {"unsupported_parameter", "unsupported_value", "unknown_parameter", "model_not_found", "invalid_model"}
)
# OpenRouter: "x is not a valid model ID"; LiteLLM: "Invalid model name passed in model=x"; Ollama: "model x not found".
_WRONG_MODEL: Final = re.compile(
    r"not a valid model|invalid model|unknown model|no such model|model\b.{0,80}\b(?:not found|does not exist)",
    re.IGNORECASE | re.DOTALL,
)
_LONGEST_WORDS: Final = 160


def error_of(status: int, body: Any, headers: Mapping[str, str]) -> NormalizerError:
    """The error of ours that says what to do about an answer of this status."""
    error = _classified(status, body, _retry_after(headers))
    error.said = words(body)
    if 300 <= status < 400:
        error.said = f"redireciona para {headers.get('location', 'outro endereço')}"
    return error


def body_error(problem: Any) -> NormalizerError:
    """The same for an error that came with status 200, as routers send it."""
    code = detail(problem, "code")
    if code.isdigit() and 400 <= int(code) < 600:
        return error_of(int(code), problem, {})
    if "rate_limit" in code:
        return error_of(429, problem, {})
    return error_of(400 if _WRONG_MODEL.search(words(problem)) else 500, problem, {})


def _classified(status: int, body: Any, wait_s: float | None) -> NormalizerError:
    code = detail(body, "code")
    if status == 429 and "insufficient_quota" in f"{code} {detail(body, 'type')}":
        return ProviderRefused("O provedor de IA diz que a conta não tem saldo (429).", fix=FIX)
    if status == 429:
        return RateLimited("the provider asks for fewer calls", retry_after_s=wait_s)
    if status in {408, 409, 425}:
        return ProviderUnavailable(f"the provider failed ({status})", retry_after_s=wait_s)
    if status >= 500 and status != 501:
        return ProviderFailed(f"the provider failed ({status})", retry_after_s=wait_s)
    return _refused(status, body, code)


def _refused(status: int, body: Any, code: str) -> NormalizerError:
    """A request that would be refused the same way for every text is the operator's; any other, this call's."""
    if status == 403 and _is_flagged(body):
        return BatchRejected("the provider flagged a text of the batch (403)")
    if status in {401, 402, 403}:
        return ProviderRefused(f"O provedor de IA recusou a chave ou a conta ({status}).", fix=FIX)
    if status < 400 or status in {404, 405, 410, 501}:
        return ProviderRefused(f"O endereço ou o modelo não existe no provedor de IA ({status}).", fix=FIX)
    if code in _EVERY_TEXTS_CODES or _WRONG_MODEL.search(words(body)):
        return ProviderRefused(f"O provedor de IA não aceita o pedido ({status}, {code or 'modelo'}).", fix=FIX)
    return BatchRejected(f"the provider refused the batch ({status})")


def detail(body: Any, name: str) -> str:
    """A field of an error's body as text, empty where there is none."""
    inner = _at(body, "error")
    value = _at(inner if isinstance(inner, dict) else body, name)
    return str(value) if value is not None else ""


def words(body: Any) -> str:
    """The provider's own sentence, on one line and not endless: an error's message, or a text that is no JSON."""
    if isinstance(body, dict):
        said = next(
            (str(body[name]) for name in ("error", "detail", "message") if isinstance(body.get(name), str)),
            detail(body, "message"),
        )
    else:
        said = re.sub(r"<[^>]*>", " ", str(body or ""))
    return " ".join(said.split())[:_LONGEST_WORDS]


def _is_flagged(body: Any) -> bool:
    """OpenRouter answers 403 for a flagged input, with the reasons in the metadata: the text's fault, not the key's."""
    return any(word in detail(body, "metadata") for word in ("reasons", "flagged_input"))


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from `retry-after-ms` or `Retry-After` (seconds or a date, RFC 9110 10.2.3)."""
    try:
        if milliseconds := headers.get("retry-after-ms"):
            return max(0.0, float(milliseconds) / 1000)
        value = headers.get("retry-after")
        if value is None:
            return None
        if value.replace(".", "", 1).isdigit():
            return float(value)
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNIT_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


@dataclass(frozen=True, slots=True)
class RateLimitHeaders:
    """What the provider's `x-ratelimit-*` headers say (OpenAI, "rate limits in headers"); None or 0 = not said."""

    limit_requests: int = 0
    limit_tokens: int = 0
    remaining_requests: int | None = None
    remaining_tokens: int | None = None
    reset_requests_s: float = 0.0
    reset_tokens_s: float = 0.0

    @classmethod
    def read(cls, headers: Mapping[str, str]) -> RateLimitHeaders:
        """Read what can be read; a header of another form is ignored."""
        return cls(
            _number(headers.get("x-ratelimit-limit-requests")) or 0,
            _number(headers.get("x-ratelimit-limit-tokens")) or 0,
            _number(headers.get("x-ratelimit-remaining-requests")),
            _number(headers.get("x-ratelimit-remaining-tokens")),
            _seconds(headers.get("x-ratelimit-reset-requests")),
            _seconds(headers.get("x-ratelimit-reset-tokens")),
        )

    def pause_s(self, tokens: int) -> float:
        """Return how long nobody should call, given that the next call takes about `tokens`.

        The reset headers name the time until the whole limit is back; a part of it is back sooner.
        """
        pauses = [0.0]
        if self.remaining_requests == 0:
            pauses.append(self.reset_requests_s / max(1, self.limit_requests))
        if self.remaining_tokens is not None and self.remaining_tokens < tokens and self.limit_tokens:
            missing = min(tokens, self.limit_tokens) - self.remaining_tokens
            pauses.append(self.reset_tokens_s * missing / self.limit_tokens)
        return min(60.0, max(pauses))


def _number(value: str | None) -> int | None:
    return int(value) if value is not None and value.isdigit() else None


def _seconds(value: str | None) -> float:
    """`6m0s`, `1.5s`, `20ms`, or bare seconds."""
    if value is None:
        return 0.0
    if value.replace(".", "", 1).isdigit():
        return float(value)
    return sum(float(amount) * _UNIT_S[unit] for amount, unit in _DURATION.findall(value))
