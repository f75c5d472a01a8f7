"""The file of a batch: which texts share a request, the lines that ask, the lines that answer. Pure.

A request is named `<our batch>:<number>`; a text's place in a batch is that number and its slot in the request.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from normalizer.errors import NormalizerError
from normalizer.llm.client import Answer, Usage, answer_of
from normalizer.llm.estimate import prompt_tokens
from normalizer.llm.packing import Budget, Cost, pack
from normalizer.llm.prompt import MAX_RECORDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from normalizer.llm.pricing import Price

#: OpenAI allows 50,000 requests and 200 MB a batch: so many texts stay below both, whatever they are. Packed as usual
#: they are some 1.4 million tokens, below the two million that small accounts may have waiting in batches.
MAX_TEXTS: Final = 20_000
_URL: Final = "/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a batch a text is asked about."""

    request: int
    slot: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Where each text goes, and what asking is expected to cost at the full price."""

    places: Mapping[str, Place]
    requests: int
    usd: float


def plan(
    costs: Mapping[str, Cost], *, items: int, count: Callable[[str], int], price: Price, most_usd: float | None = None
) -> Plan:
    """Pack texts into requests as the synchronous lane packs them into calls.

    Args:
        costs: by text, what it takes of a call.
        items: records in a request at most.
        count: tokens of a text.
        price: of the model.
        most_usd: texts that would cost more than this together are left out; None = no bound.
    """
    # As `Line` does: what must be alone cuts no batch of the others.
    texts = sorted(costs, key=lambda text: costs[text].company or 0)
    places: dict[str, Place] = {}
    usd, requests, overhead = 0.0, 0, prompt_tokens(count)
    for batch in pack(texts, budget=Budget(items=items), cost=costs.__getitem__):
        tokens_in = overhead + sum(costs[text].tokens_in for text in batch)
        more = price.of(Usage(tokens_in, sum(costs[text].tokens_out for text in batch)))
        if most_usd is not None and usd + more > most_usd:
            break
        places |= {text: Place(requests, slot) for slot, text in enumerate(batch)}
        usd, requests = usd + more, requests + 1
    return Plan(places, requests, usd)


def request_line(batch_id: str, request: int, body: Mapping[str, Any]) -> bytes:
    """One line of the file that is uploaded."""
    line = {"custom_id": f"{batch_id}:{request}", "method": "POST", "url": _URL, "body": body}
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def read_line(batch_id: str, line: str) -> tuple[int, Answer] | None:
    """The request a result line answers, and the answer by slot; None for what is no answer to this batch's."""
    try:
        found = orjson.loads(line)
        owner, _, number = str(found["custom_id"]).rpartition(":")
        response = found["response"] or {}
        if owner != batch_id or not number.isdigit() or response.get("status_code") != 200:
            return None
        return int(number), answer_of(response["body"], MAX_RECORDS)
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, NormalizerError):
        return None
