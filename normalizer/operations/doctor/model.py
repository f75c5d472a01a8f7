"""The model provider: reached, understood, allowed what the settings ask of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from normalizer.domain.wording import number
from normalizer.errors import BatchRejected, Misconfigured, NormalizerError, TransientError, UnusableAnswer
from normalizer.llm.client import LlmClient, Mode
from normalizer.llm.pricing import price, prices_as_of
from normalizer.llm.rate_limit_headers import RateLimitHeaders
from normalizer.operations.doctor.finding import Finding, Level, good, warning, wrong

if TYPE_CHECKING:
    from normalizer.llm.answer import Answer, Usage
    from normalizer.llm.endpoint import CapabilityStore, EndpointCapabilities
    from normalizer.llm.model_status import ModelStatus
    from normalizer.llm.pricing import Ledger
    from normalizer.settings import Settings

MODEL: Final = "IA"
_TRY_ANOTHER: Final = "Confira OPENAI_MODEL e OPENAI_BASE_URL."


async def check_model(
    settings: Settings, *, ask: bool = True, memory: CapabilityStore | None = None, ledger: Ledger | None = None
) -> list[Finding]:
    """Key, model, schema support, latency and limits, by one small paid call with a made-up address.

    Args:
        settings: key, endpoint, model and limits.
        ask: False makes no call at all.
        memory: told how the endpoint must be asked, so that the workers need not find it out.
        ledger: told what the call used.
    """
    key = settings.openai_api_key
    if not settings.address_normalization_enabled:
        return [good(MODEL, "não é usada: ADDRESS_NORMALIZATION_ENABLED=false")]
    if key is None:
        fix = "Defina OPENAI_API_KEY; depois: normalizer retry --review"
        return [warning(MODEL, "sem OPENAI_API_KEY: só regras e cache, o resto espera em revisão.", fix)]
    findings = list(_price(settings.openai_model))
    if not ask:
        return [*findings, good(MODEL, "não foi chamada (--offline)")]
    try:
        client = LlmClient(api_key=key.get_secret_value(), model=settings.openai_model, base_url=settings.base_url)
    except Misconfigured as error:
        return [*findings, Finding(MODEL, Level.SETTING, error.problem, error.fix)]
    try:
        return [*findings, *await _call(client, settings, memory, ledger)]
    finally:
        await client.close()


def check_lane(model_status: ModelStatus | None) -> list[Finding]:
    """What the replicas have found out about the model lane by themselves."""
    if model_status is None or not model_status.has_key:
        return []
    findings = []
    if model_status.capabilities is not None:
        findings.append(
            good(MODEL, f"os workers pedem respostas em {model_status.capabilities.mode.value} (lembrado no Redis)")
        )
    if model_status.stopped is not None:
        fix = "Chave, conta ou modelo: corrija no provedor. Orçamento: aumente DAILY_BUDGET_USD ou espere amanhã."
        findings.append(warning(MODEL, f"a IA está parada: {model_status.stopped}", fix))
    return findings


def _price(model: str) -> Iterator[Finding]:
    if price(model).listed:
        yield good(MODEL, f"{model}: preço conhecido (tabela de {prices_as_of()})")
    else:
        fix = "O custo é estimado pelo modelo mais caro da tabela; acrescente-o a normalizer/llm/prices.json."
        yield warning(MODEL, f"{model} não está na tabela de preços.", fix)


async def _call(
    client: LlmClient, settings: Settings, memory: CapabilityStore | None, ledger: Ledger | None
) -> list[Finding]:
    try:
        answer = await _ask(client, ledger)
    except Misconfigured as error:
        return [wrong(MODEL, f"{error.problem}{_said(error)}", error.fix), *await _known_models(client, settings)]
    except TransientError as error:
        fix = "Confira a rede de saída e o estado do provedor; o worker segue com regras e cache."
        return [Finding(MODEL, Level.AWAY, f"o provedor não respondeu ({type(error).__name__}).", fix)]
    except UnusableAnswer as error:
        return [wrong(MODEL, f"o provedor não dá resposta que se possa ler: {error}.", _TRY_ANOTHER)]
    except BatchRejected as error:
        return [wrong(MODEL, f"o provedor recusou um pedido comum.{_said(error)}", _TRY_ANOTHER)]
    if memory is not None:
        await memory.remember(client.capabilities)
    findings = [good(MODEL, f"{settings.openai_model} respondeu em {number(answer.seconds, 1)} s")]
    if client.mode is Mode.STRICT:
        findings.append(good(MODEL, "aceita o esquema JSON estrito"))
    else:
        fix = "Funciona, com mais respostas a repetir; prefira um modelo com structured outputs."
        findings.append(warning(MODEL, f"o endpoint não aceita esquema estrito (usa {client.mode.value}).", fix))
    findings += _adapted(client.capabilities)
    if not any(slot and any(slot.values()) for slot in answer.slots):
        fix = "Compare com `normalizer normalize address` antes de confiar neste modelo."
        findings.append(warning(MODEL, "o modelo não soube ler um endereço fácil.", fix))
    return [*findings, *_limits(RateLimitHeaders.read(answer.headers), settings)]


async def _ask(client: LlmClient, ledger: Ledger | None) -> Answer:
    """The control question; what it used is counted, whatever came back."""
    usage: Usage | None = None
    try:
        answer = await client.ask_control(timeout_s=30)
        usage = answer.usage
    except NormalizerError as error:
        usage = error.usage
        raise
    else:
        return answer
    finally:
        if ledger is not None and usage is not None and usage.calls:
            await ledger.record(usage, 0)


def _adapted(found: EndpointCapabilities) -> Iterator[Finding]:
    """What was given up so that the endpoint answers."""
    if found.without:
        yield good(MODEL, f"o endpoint é chamado sem {', '.join(sorted(found.without))}, que não aceita")
    if found.renamed:
        yield good(MODEL, "o endpoint toma o limite de tokens pelo outro nome (max_tokens, max_completion_tokens)")


def _said(error: NormalizerError) -> str:
    """The provider's own words: they are about a question of ours."""
    return f" Ele diz: “{error.said}”." if error.said else ""


async def _known_models(client: LlmClient, settings: Settings) -> list[Finding]:
    """When a call was refused: is it the model's name?"""
    try:
        names = await client.models()
    except (Misconfigured, TransientError, BatchRejected):
        return []
    if settings.openai_model in names:
        return []
    return [wrong(MODEL, f"o endpoint não oferece {settings.openai_model}.", "Corrija OPENAI_MODEL.")]


def _limits(stated: RateLimitHeaders, settings: Settings) -> Iterator[Finding]:
    seen = False
    for name, ours, theirs in (
        ("LLM_RPM", settings.llm_rpm, stated.limit_requests),
        ("LLM_TPM", settings.llm_tpm, stated.limit_tokens),
    ):
        if not theirs:
            continue
        seen = True
        if not ours or ours > theirs:
            yield warning(MODEL, f"{name}={ours}, e o provedor permite {theirs}.", f"Defina {name}={theirs}.")
        else:
            yield good(MODEL, f"{name}={ours} cabe no limite do provedor ({theirs})")
    if not seen:
        where = " (a OpenRouter não os diz)" if "openrouter.ai" in (settings.base_url or "") else ""
        yield good(MODEL, f"o provedor não informou limites{where}; valem LLM_RPM e LLM_TPM")
