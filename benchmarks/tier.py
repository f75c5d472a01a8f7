"""The half-price tier's saving, and who its refusals make late: LLM_SERVICE_TIER=flex at 0, 30, 100 % refused.

`python -m benchmarks.tier` asks a simulated provider about the same made-up addresses, all for the model, by the
default tier and by flex while it refuses none, three in ten and all of its calls. Printed for each, and written to
`benchmarks/results/tier.json`: US$ per 1,000 rows as the ledger counts them, calls by the tier that answered, refusals,
and rows not answered by the deadline of their group.
"""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx2

from benchmarks.circumstances import keep
from normalizer.errors import NormalizerError
from normalizer.llm.client import LlmClient
from normalizer.llm.coalescer import Coalescer
from normalizer.llm.limits import LocalGate
from normalizer.llm.pricing import price
from normalizer.llm.tokens import counter
from normalizer.simulation.provider import Options, build_app

if TYPE_CHECKING:
    from normalizer.llm.answer import Usage

RESULTS: Final = Path(__file__).parent / "results" / "tier.json"
MODEL: Final = "simulated"
_GROUP: Final = 250
_JOB_S: Final = 60.0
_WAYS: Final = {"default": None, "flex, never refused": 0.0, "flex, 30 % refused": 0.3, "flex, always refused": 1.0}


@dataclass(slots=True)
class Way:
    rows: int = 0
    usd_per_1000: float = 0.0
    by_tier: dict[str, int] | None = None
    refused: int = 0
    past_the_deadline: int = 0
    usd: float = 0.0

    async def record(self, usage: Usage, _records: int, **_: object) -> None:
        """Count as the ledger does: by the tier that the answer names."""
        self.usd += price(MODEL).of(usage)

    async def spent(self) -> bool:
        return False


async def measure(rows: int, refused: float | None) -> Way:
    """Ask about `rows` addresses in groups, as a worker's slots do."""
    texts = [f"Rua das Acácias {number}, Jardim Tal, Cidade Inventada" for number in range(rows)]
    app = build_app({}, Options(latency_ms=200, tokens_per_s=400, flex_refused=refused or 0.0))
    http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app))
    client = LlmClient(api_key="simulated", model=MODEL, base_url="http://simulated/v1", http_client=http)
    way = Way(rows)
    coalescer = Coalescer(
        client,
        count=counter(MODEL),
        gate=LocalGate(),
        ledger=way,  # type: ignore[arg-type] # counts as the ledger does, without a Redis
        flex=refused is not None,
    )

    async def group(start: int) -> int:
        deadline = asyncio.get_running_loop().time() + _JOB_S
        waiter = coalescer.resolve_many(texts[start : start + _GROUP], deadline=deadline)
        late = 0
        async for outcomes in waiter:
            late += sum(isinstance(outcome, NormalizerError) for outcome in outcomes.values())
        return late

    way.past_the_deadline = sum([await group(start) for start in range(0, rows, _GROUP)])
    await coalescer.close()
    await client.close()
    stats = app.state.provider.stats()
    way.by_tier, way.refused = stats["by_tier"], stats["by_status"].get("429", 0)
    way.usd_per_1000 = round(1_000 * way.usd / rows, 6)
    return way


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=5_000)
    given = parser.parse_args()
    found = {name: asyncio.run(measure(given.rows, refused)) for name, refused in _WAYS.items()}
    full = found["default"].usd_per_1000
    for name, way in found.items():
        print(
            f"{name:22} US$ {way.usd_per_1000:.4f} per 1,000 rows ({way.usd_per_1000 / full:.2f} x default), "
            f"calls {way.by_tier}, refused {way.refused}, past the deadline {way.past_the_deadline}"
        )
    keep(RESULTS, {name: asdict(way) for name, way in found.items()})


if __name__ == "__main__":
    main()
