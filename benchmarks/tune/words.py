"""The advice in an operator's words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from benchmarks.tune.endpoint import Probed
from benchmarks.tune.search import Advice
from benchmarks.tune.verify import Verified, environment_of
from benchmarks.tune.workload import Sheet
from normalizer.llm.client import Usage
from normalizer.llm.pricing import price, prices_as_of

LIMITS: Final = {
    "cpu": "a CPU dos workers",
    "redis": "o Redis (um núcleo)",
    "groups": "os grupos em andamento (ARQ_MAX_JOBS × BATCH_MAX_ITEMS)",
    "mongodb": "as gravações do MongoDB",
    "calls": "as chamadas simultâneas (LLM_MAX_CONCURRENCY)",
    "rpm": "os pedidos por minuto do provedor (LLM_RPM)",
    "tpm": "os tokens por minuto do provedor (LLM_TPM)",
}
_REMEDY: Final = {
    "cpu": "mais workers ou mais CPU",
    "redis": "um Redis só para a fila, numa máquina mais rápida",
    "groups": "ARQ_MAX_JOBS maior",
    "mongodb": "disco e índices do MongoDB",
    "calls": "LLM_MAX_CONCURRENCY maior",
    "rpm": "um limite maior na conta do provedor",
    "tpm": "um limite maior na conta do provedor",
}


def probed_lines(found: Probed) -> Iterator[str]:
    """What the live endpoint was found to be."""
    yield (
        f"Provedor medido em {_calls(found.calls)} (US$ {number(found.usd, 4)}): {number(found.latency_s, 2)} s até "
        f"começar, {number(found.tokens_per_s)} tokens/s, {_percent(found.answered)} dos registros respondidos."
    )


def advice_lines(sheet: Sheet, advice: Advice, *, model: str) -> Iterator[str]:
    """The workload, the environment to set, what to expect, and what is in the way of more."""
    load, at = sheet.load, advice.at
    yield (
        f"Carga: {number(sheet.rows)} linhas; {_percent(load.residual, 1)} dos endereços só a IA lê, "
        f"{_percent(load.known)} deles repetidos; "
        f"{number(load.tokens_in)} + {number(load.tokens_out)} tokens por endereço."
    )
    yield ""
    yield f"# {_workers(at.replicas)} com:"
    yield from (f"{name}={value}" for name, value in environment_of(at).items())
    yield ""
    yield f"Esperado: {number(advice.rows_per_min)} linhas/min; a planilha em {_time(advice.seconds)}."
    usd = price(model).of(Usage(round(advice.tokens_in), round(advice.tokens_out)))
    tokens = advice.tokens_in + advice.tokens_out
    dear = "" if price(model).listed else "; modelo fora da tabela: vale o preço do mais caro"
    yield (
        f"IA: {_calls(advice.calls)}, {number(tokens)} tokens, US$ {number(usd, 4)} "
        f"({model}, preços de {prices_as_of()}{dear})."
    )
    yield f"O que limita esta planilha: {LIMITS[advice.limit]}; para ir além: {_REMEDY[advice.limit]}."
    yield f"Depois: {LIMITS[advice.then]}; sem o primeiro limite, seria {number(advice.headroom, 1)} vezes mais rápido."
    if advice.more_helps:
        faster = _percent(advice.gain_of_more)
        yield f"Mais workers ajudam: com {2 * at.replicas}, a planilha fica {faster} mais rápida."
    else:
        yield f"Mais workers não ajudam: com {2 * at.replicas}, a planilha leva o mesmo tempo."
    if at.replicas == 1:
        yield "Um basta para a vazão; tenha dois para que um deploy ou uma queda não pare nada."


def verified_lines(found: Verified) -> Iterator[str]:
    """What was predicted, and what came out."""
    yield (
        f"Conferido no provedor simulado, nesta máquina: {number(found.rows)} linhas, {_workers(found.replicas)}: "
        f"previsto {number(found.predicted_s, 1)} s e {_calls(found.predicted_calls)}, "
        f"medido {number(found.measured_s, 1)} s e {_calls(found.measured_calls)} "
        f"(erro de {_percent(found.error)}); {number(found.refused)} recusadas (429)."
    )


def _workers(count: int) -> str:
    return "1 worker" if count == 1 else f"{count} workers"


def _time(seconds: float) -> str:
    return f"{number(seconds, 1)} s" if seconds < 120 else f"{number(seconds / 60, 1)} min"


def _percent(share: float, digits: int = 0) -> str:
    return f"{number(100 * share, digits)} %"


def _calls(count: float) -> str:
    return f"{number(count)} {'chamada' if round(count) == 1 else 'chamadas'}"


def number(value: float, digits: int = 0) -> str:
    """As Brazilians write it: 1.234,5."""
    return f"{value:,.{digits}f}".replace(",", " ").replace(".", ",").replace(" ", ".")
