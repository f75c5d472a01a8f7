"""The bodies of the simulated provider's answers, in the shape of OpenAI's."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

MODEL = "simulated"


def completion(id_: str, message: dict[str, Any], finish: str, spent_in: int, spent_out: int) -> dict[str, Any]:
    return {
        "id": id_,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": MODEL,
        "system_fingerprint": "simulated",
        "choices": [{"index": 0, "message": message, "finish_reason": finish, "logprobs": None}],
        "usage": {"prompt_tokens": spent_in, "completion_tokens": spent_out, "total_tokens": spent_in + spent_out},
    }


def error(
    status: int,
    code: str,
    retry_after_s: float | None,
    *,
    param: str | None = None,
    message: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    about = f": {param}" if param else ""
    body = {
        "error": {"message": message or f"simulated error{about}", "type": "simulated", "param": param, "code": code}
    }
    extra = {} if retry_after_s is None else {"retry-after": f"{retry_after_s:.3f}"}
    return JSONResponse(body, status_code=status, headers={**extra, **(headers or {})})
