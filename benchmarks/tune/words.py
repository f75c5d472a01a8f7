"""The advice in an operator's words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from benchmarks.tune.endpoint import Probed
from benchmarks.tune.trial import Setting, Trial
from benchmarks.tune.workload import Workload
from normalizer.llm.client import Usage
from normalizer.llm.pricing import price, prices_as_of

LIMITS: Final = {
    "rpm": "os pedidos por minuto do provedor (LLM_RPM); só um limite maior na conta ajuda",
    "tpm": "os tokens por minuto do provedor (LLM_TPM); só um limite maior na conta ajuda",
    "cpu": "a CPU dos workers; mais workers ou mais CPU ajudam",
    "waiting": "a espera pelas respostas da IA e pelas gravações; nenhum passo a mais valeu a pena",
}


def probed_line(found: Probed) -> str:
    """What the live endpoint was found to be."""
    return (
        f"Provedor medido em {_calls(found.calls)} (US$ {number(found.usd, 4)}): {number(found.latency_s, 2)} s até "
        f"começar, {number(found.tokens_per_s)} tokens/s, {_percent(found.answered)} dos registros respondidos."
    )


def load_line(load: Workload) -> str:
    """What the rows are like."""
    return (
        f"Carga: {number(load.rows)} linhas; {_percent(load.residual, 1)} dos endereços só a IA lê, "
        f"{_percent(load.known)} deles repetidos."
    )


def trial_line(trial: Trial) -> str:
    """One trial, as it ends."""
    at = trial.setting
    return (
        f"  {_workers(at.replicas)}, ARQ_MAX_JOBS={at.max_jobs}, LLM_RECORDS_PER_CALL={at.records_per_call}, "
        f"LLM_MAX_CONCURRENCY={at.concurrency}: {number(trial.rows_per_min)} linhas/min "
        f"({number(trial.rows)} linhas em {number(trial.seconds, 1)} s, {_calls(trial.calls)}"
        f"{f', {number(trial.refused)} recusadas' if trial.refused else ''})"
    )


def advice_lines(load: Workload, best: Trial, tried: Sequence[Trial], *, model: str) -> Iterator[str]:
    """The environment to set, what to expect of it, and what is in the way of more."""
    yield ""
    yield f"# {_workers(best.setting.replicas)} com:"
    yield from (f"{name}={value}" for name, value in environment_of(best).items())
    yield ""
    seconds = 60 * load.rows / best.rows_per_min
    yield f"Esperado: {number(best.rows_per_min)} linhas/min; a planilha em {_time(seconds)}."
    times = load.rows / best.rows
    usage = Usage(round(best.tokens_in * times), round(best.tokens_out * times))
    dear = "" if price(model).listed else "; modelo fora da tabela: vale o preço do mais caro"
    yield (
        f"IA: {_calls(best.calls * times)}, {number(usage.tokens_in + usage.tokens_out)} tokens, "
        f"US$ {number(price(model).of(usage), 4)} ({model}, preços de {prices_as_of()}{dear})."
    )
    yield f"O que limita: {LIMITS[best.limit]}."
    yield from _replicas_lines(best, tried)


def environment_of(best: Trial) -> dict[str, str]:
    """The variables to set, the account's limits among them."""
    return {
        **best.setting.environment,
        "LLM_RPM": str(best.account.rpm),
        "LLM_TPM": str(best.account.tpm),
    }


def more_workers_help(best: Trial, tried: Sequence[Trial]) -> bool | None:
    """Whether one worker more would be worth having; None where it was not tried."""
    if best.limit in {"rpm", "tpm"}:
        return False
    more = _one_more(best.setting)
    return False if any(trial.setting == more for trial in tried) else None


def _one_more(at: Setting) -> Setting:
    return Setting(at.replicas + 1, at.max_jobs, at.records_per_call, at.concurrency)


def _replicas_lines(best: Trial, tried: Sequence[Trial]) -> Iterator[str]:
    if more_workers_help(best, tried) is None:
        yield "Com mais workers não foi testado: --max-replicas diz quantos você pode ter."
    else:
        yield "Mais workers não ajudam."
    if best.setting.replicas == 1:
        yield "Um basta para a vazão; tenha dois para que um deploy ou uma queda não pare nada."


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
