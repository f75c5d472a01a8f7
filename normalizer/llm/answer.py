"""One answer of the model: its records, its usage, and why it is none. Pure: reads the body as it came.

Endpoints send the shape in many variants (content in parts, errors in a 200, counts that are no numbers). What can be
read is read; everything else is one `UnusableAnswer` that names what came and carries what it cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from normalizer.errors import NormalizerError, UnusableAnswer
from normalizer.llm.prompt import Segments, parse_answer
from normalizer.llm.provider_errors import body_error

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
    body = body if isinstance(body, dict) else {}
    choice = _first(body.get("choices"))
    message = _dict(choice.get("message"))
    text = _text(message.get("content"))
    usage = _usage(body, sent_chars, len(text))
    finish = "refusal" if message.get("refusal") else str(choice.get("finish_reason") or "stop")
    if (problem := _problem(body, choice, finish, text, usage)) is not None:
        problem.usage = usage
        raise problem
    return Answer(parse_answer(text, records), usage, seconds, finish, headers)


def _problem(
    body: Mapping[str, Any], choice: Mapping[str, Any], finish: str, text: str, usage: Usage
) -> NormalizerError | None:
    if error := body.get("error") or choice.get("error"):
        return body_error(error)
    if finish == "error":
        return body_error({"message": "finish_reason: error"})
    if not choice:
        return UnusableAnswer("resposta sem nenhuma escolha (choices)")
    if text or finish in {"content_filter", "refusal"}:
        return None
    if finish == "length" or _reasoned(body) > usage.tokens_out // 2 > 0:
        return UnusableAnswer(ATE_ITS_TOKENS)
    return UnusableAnswer("resposta vazia")


def _first(choices: Any) -> dict[str, Any]:
    return choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}


def _text(content: Any) -> str:
    """Content as text: a string, or a list of parts as newer endpoints send it."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = (part.get("text") if isinstance(part, dict) else part for part in content)
    return "".join(part for part in parts if isinstance(part, str))


def _usage(body: Mapping[str, Any], sent_chars: int, answered_chars: int) -> Usage:
    tier = body.get("service_tier")
    tier = tier if isinstance(tier, str) else None
    said = body.get("usage")
    if not isinstance(said, dict):
        return Usage(sent_chars // _CHARS_PER_TOKEN, answered_chars // _CHARS_PER_TOKEN, tier=tier)
    cost = said.get("cost")
    return Usage(
        tokens_in=_count(said.get("prompt_tokens")),
        tokens_out=_count(said.get("completion_tokens")),
        cached_in=_count(_dict(said.get("prompt_tokens_details")).get("cached_tokens")),
        cost_usd=float(cost) if isinstance(cost, int | float) and not isinstance(cost, bool) else None,
        tier=tier,
    )


def _reasoned(body: Mapping[str, Any]) -> int:
    return _count(_dict(_dict(body.get("usage")).get("completion_tokens_details")).get("reasoning_tokens"))


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: Any) -> int:
    return max(0, int(value)) if isinstance(value, int | float) and not isinstance(value, bool) else 0
