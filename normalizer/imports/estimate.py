"""Estimate of a sheet before it is imported: who would answer its texts, in how many calls, at what cost.

Nothing is written and nothing leaves the machine: the file is read as an import reads it, the cache is only looked at,
the rules are really run, and what they leave is packed as the worker would pack it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from normalizer.domain.address import parse_address
from normalizer.domain.appointment import Appointment, Kind
from normalizer.domain.text import canonical
from normalizer.domain.wording import money, number
from normalizer.imports.plan import read_whole
from normalizer.llm.packing import Budget, Estimate, estimate
from normalizer.llm.pricing import price, prices_as_of, tier_share
from normalizer.llm.tokens import counter
from normalizer.worker.pipeline import needs_model

if TYPE_CHECKING:
    from normalizer.cache import Cache
    from normalizer.imports.spreadsheet import Limits, Vocabulary
    from normalizer.store import ImportRow

_LOOKED_UP_AT_ONCE: Final = 1_000
_PARSES_PER_LOOP_TURN: Final = 50


@dataclass(frozen=True, slots=True)
class LaneLimits:
    """The model lane as it is set up.

    Attributes:
        model: whose price counts.
        has_key: without one, what only a model could settle waits in review.
        records_per_call, rpm, tpm, concurrency: its limits; 0 = unlimited for `rpm` and `tpm`.
        daily_budget_usd: 0 = none.
        tier: the service tier that is asked for.
    """

    model: str
    has_key: bool
    records_per_call: int = 25
    rpm: int = 0
    tpm: int = 0
    concurrency: int = 8
    daily_budget_usd: float = 0.0
    tier: str = "default"


@dataclass(slots=True)
class SheetTexts:
    """What the rows of a sheet ask: distinct addresses by their canonical form, distinct documents."""

    rows: int = 0
    problems: int = 0
    addresses: dict[str, str] = field(default_factory=dict)
    documents: set[str] = field(default_factory=set)

    def note(self, rows: Iterable[ImportRow]) -> None:
        """Take up the next rows, each appointment once."""
        for row in rows:
            self.rows += 1
            appointment = Appointment(row.key, row.fields)
            if text := appointment.text(Kind.ADDRESS):
                self.addresses.setdefault(canonical(text), text)
            if text := appointment.text(Kind.DOCUMENT):
                self.documents.add(canonical(text))


@dataclass(frozen=True, slots=True)
class SheetEstimate:
    """What an import of this sheet would take. Texts are counted by identity, as they are asked.

    Attributes:
        rows: usable rows, each appointment once; `problems` could not be used.
        addresses, documents: distinct texts; documents are always settled by rules.
        cached, by_rules: distinct addresses that need no model; `asked` is what only a model can settle.
        cache_consulted: False when cache or Redis could not be reached; `cached` is 0 then.
    """

    rows: int
    problems: int
    addresses: int
    documents: int
    cached: int
    by_rules: int
    asked: Estimate
    cache_consulted: bool
    lane: LaneLimits

    def as_dict(self) -> dict[str, Any]:
        """The JSON document of `estimate --json`."""
        asked = self.asked
        return {
            "linhas": self.rows,
            "problemas": self.problems,
            "enderecos_distintos": self.addresses,
            "documentos_distintos": self.documents,
            "do_cache": self.cached if self.cache_consulted else None,
            "por_regras": self.by_rules,
            "para_a_ia": self.addresses - self.cached - self.by_rules,
            "chamadas": asked.calls,
            "tokens_entrada": asked.tokens_in,
            "tokens_saida": asked.tokens_out,
            "tokens": asked.tokens_in + asked.tokens_out,
            "custo_usd": asked.usd,
            "minutos": asked.minutes,
            "camada": self.lane.tier,
            "modelo": self.lane.model,
            "precos_de": prices_as_of(),
            "preco_conhecido": price(self.lane.model).listed,
            "chave_configurada": self.lane.has_key,
            "orcamento_diario_usd": self.lane.daily_budget_usd or None,
            "cache_consultado": self.cache_consulted,
        }

    def lines(self) -> Iterator[str]:
        """The same for people."""
        asked, lane = self.asked, self.lane
        yield f"{self.rows} linhas ({self.problems} problemas): {self.addresses} endereços distintos,"
        yield f"{self.documents} documentos distintos (sempre por regras)."
        yield (
            f"  do cache     {self.cached:>8}"
            if self.cache_consulted
            else "  do cache            – (cache não consultado)"
        )
        yield f"  por regras   {self.by_rules:>8}"
        yield f"  para a IA    {self.addresses - self.cached - self.by_rules:>8}"
        yield (
            f"IA: {asked.calls} chamadas, {asked.tokens_in + asked.tokens_out} tokens "
            f"({asked.tokens_in} de entrada, {asked.tokens_out} de saída), {money(asked.usd)}, "
            f"cerca de {number(asked.minutes, 1)} min "
            f"({lane.model}, preços de {prices_as_of()})."
        )
        if lane.tier != "default":
            full = asked.usd / tier_share(lane.tier)
            yield f"Custo na camada {lane.tier} (LLM_SERVICE_TIER); se o provedor a recusar, até {money(full)}."
        if not price(lane.model).listed:
            yield "O modelo não está na tabela de preços: vale o preço do mais caro."
        if not lane.has_key:
            yield "Sem OPENAI_API_KEY: o que iria para a IA espera em revisão."
        if 0 < lane.daily_budget_usd < asked.usd:
            yield f"O custo passa de DAILY_BUDGET_USD={lane.daily_budget_usd:g}: parte espera em revisão."
        yield "Nada foi gravado nem enviado."


async def estimate_sheet(
    source: str | Path | bytes,
    *,
    lane: LaneLimits,
    cache: Cache | None,
    name: str | None = None,
    limits: Limits | None = None,
    vocabulary: Vocabulary | None = None,
) -> SheetEstimate:
    """Read a sheet as an import would and say what it would take.

    Args:
        source: a path or the file's bytes.
        lane: the model lane as it is set up.
        cache: only looked at; None where it cannot be asked.
        name: what messages call the file when `source` is bytes.
        limits: bounds on size.
        vocabulary: what titles mean beyond the known names.

    Raises InvalidInput when nothing of the file can be used.
    """

    def read() -> SheetTexts:
        sheet, plan = read_whole(source, name, limits, vocabulary)
        sheet.close()
        texts = SheetTexts(problems=len(plan.problems))
        texts.note(plan.chosen_rows())
        return texts

    return await estimate_texts(await asyncio.to_thread(read), lane=lane, cache=cache)


async def estimate_texts(texts: SheetTexts, *, lane: LaneLimits, cache: Cache | None) -> SheetEstimate:
    """Say what the texts of a sheet that was read would take; the arguments are those of `estimate_sheet`."""
    addresses = list(texts.addresses.values())
    cached = await _known(cache, addresses)
    asked = await _left_by_rules([text for text in addresses if text not in cached])
    taken = await asyncio.to_thread(
        lambda: estimate(
            asked,
            model=lane.model,
            count=counter(lane.model),
            budget=Budget(items=lane.records_per_call),
            rpm=lane.rpm,
            tpm=lane.tpm,
            concurrency=lane.concurrency,
            tier=lane.tier,
        )
    )
    return SheetEstimate(
        rows=texts.rows,
        problems=texts.problems,
        addresses=len(addresses),
        documents=len(texts.documents),
        cached=len(cached),
        by_rules=len(addresses) - len(cached) - len(asked),
        asked=taken,
        cache_consulted=cache is not None and not cache.stats()["outages"],
        lane=lane,
    )


async def _known(cache: Cache | None, texts: Sequence[str]) -> set[str]:
    known: set[str] = set()
    left = iter(texts)
    while cache is not None and (chunk := list(islice(left, _LOOKED_UP_AT_ONCE))):
        known.update(await cache.get_many(Kind.ADDRESS, chunk))
    return known


async def _left_by_rules(texts: Sequence[str]) -> list[str]:
    left = []
    for turn, text in enumerate(texts):
        if needs_model(parse_address(text)):
            left.append(text)
        if turn % _PARSES_PER_LOOP_TURN == 0:
            await asyncio.sleep(0)
    return left
