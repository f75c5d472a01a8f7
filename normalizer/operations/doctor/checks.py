"""Checks of the doctor: settings, Redis, MongoDB, the receiver of events, the model provider.

Each finding says how one thing is, and in one line how to mend it. It holds no secret and no patient's datum.
"""

from __future__ import annotations

import difflib
import math
import re
import secrets
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from redis.exceptions import RedisError, ResponseError
from rich.markup import escape
from rich.padding import Padding

from normalizer.domain.wording import many, number
from normalizer.errors import BatchRejected, Misconfigured, NormalizerError, TransientError, UnusableAnswer
from normalizer.llm.answer import RateLimitHeaders
from normalizer.llm.client import LlmClient, Mode
from normalizer.llm.pricing import price, prices_as_of
from normalizer.operations.events import Refused
from normalizer.postal import open_base
from normalizer.runtime import outdated_python, webhook_of_settings
from normalizer.settings import Settings
from normalizer.store.outbox import Event

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from rich.console import Console

    from normalizer.llm.answer import Answer, Usage
    from normalizer.llm.client import CapabilityStore, EndpointCapabilities
    from normalizer.llm.pricing import Ledger, ModelStatus
    from normalizer.store import AppointmentStore
    from normalizer.store.indexes import Diagnosis


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "aviso"
    WRONG = "erro"
    SETTING = "configuração"  # nothing can run before it is mended
    AWAY = "fora do ar"  # a service cannot be reached


_MARKS = {Level.OK: "[green]✔[/green]", Level.WARNING: "[yellow]![/yellow]"}


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found; `fix` is empty where nothing is to be done. Holds no secret, no patient's datum."""

    level: Level
    what: str
    fix: str = ""


def good(what: str) -> Finding:
    """Nothing to do."""
    return Finding(Level.OK, what)


def warning(what: str, fix: str) -> Finding:
    """It works, and could be better."""
    return Finding(Level.WARNING, what, fix)


def wrong(what: str, fix: str) -> Finding:
    """It does not work."""
    return Finding(Level.WRONG, what, fix)


@dataclass(frozen=True, slots=True)
class Report:
    """Everything the doctor found, by area."""

    found: Mapping[str, Sequence[Finding]]

    @property
    def exit_code(self) -> int:
        """0 ok or warnings only, 2 a wrong setting, 3 a service is away, 1 anything else that is wrong."""
        levels = self._levels()
        for level, code in ((Level.SETTING, 2), (Level.AWAY, 3), (Level.WRONG, 1)):
            if levels[level]:
                return code
        return 0

    def as_dict(self) -> dict[str, Any]:
        """The JSON document of `doctor --json`."""
        found = [
            {"area": area, "nivel": one.level, "achado": one.what, "como_corrigir": one.fix}
            for area, findings in self.found.items()
            for one in findings
        ]
        return {"ok": self.exit_code == 0, "achados": found}

    def show(self, console: Console) -> None:
        """The same for people."""
        for area, findings in self.found.items():
            if findings:
                console.print(f"[bold]{escape(area)}[/bold]")
            for finding in findings:
                console.print(f"  {_MARKS.get(finding.level, '[red]✖[/red]')} {escape(finding.what)}")
                if finding.fix:
                    console.print(Padding(f"→ {escape(finding.fix)}", (0, 0, 0, 4)))
        levels = self._levels()
        errors = levels.total() - levels[Level.OK] - levels[Level.WARNING]
        console.print(f"\n{errors} erros, {levels[Level.WARNING]} avisos.")

    def _levels(self) -> Counter[Level]:
        return Counter(finding.level for findings in self.found.values() for finding in findings)


_ALIASES: Final = frozenset({"OPENROUTER_API_KEY", "OPENROUTER_BASE_URL", "OPENROUTER_MODEL"})
# Read by the provider's SDK, by the image or by compose, not by us.
_OTHERS: Final = frozenset(
    {"OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_LOG", "REDIS_PORT", "REDIS_HOST", "REDISCLI_AUTH", "CACHE_DIR"}
)
_OURS: Final = re.compile(
    r"(ARQ|BATCH|LLM|OPENAI|OPENROUTER|CACHE|MONGODB|REDIS|LEASE|SHUTDOWN|DAILY|METRICS|POSTAL|ADDRESS|DOCUMENT)_[A-Z_]+"
)
_LINE: Final = re.compile(r"^\s*(?:export\s+)?([A-Z][A-Z0-9_]*)\s*=", re.MULTILINE)
# What the plan is reckoned with: texts that rules and cache leave over, and one call of 25 records.
_RESIDUAL, _CALL_S, _TOKENS_PER_RECORD = 0.15, 10.0, 110


def known_names() -> frozenset[str]:
    """Every variable that is read."""
    return frozenset(name.upper() for name in Settings.model_fields) | _ALIASES


def given_names(environment: Mapping[str, str], dotenv: Path = Path(".env")) -> set[str]:
    """Names that are set, in the environment or in `.env`."""
    try:
        in_file = set(_LINE.findall(dotenv.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        in_file = set()
    return {name.upper() for name in environment} | in_file


def check(settings: Settings, given: Iterable[str]) -> list[Finding]:
    """Look at settings that were read without an error."""
    problem = outdated_python()
    outdated = [warning(problem, "A imagem do Docker traz um mais novo.")] if problem else []
    found = [*_unknown(given), *_contradictions(settings), *_plan(settings), *outdated]
    return [*(found or [good("variáveis conhecidas e sem contradição")]), *_base(settings)]


def _base(settings: Settings) -> Iterator[Finding]:
    """Which postal base is asked; nothing where there is none, which is no fault."""
    try:
        base = open_base(settings.postal_base)
    except Misconfigured as error:
        yield unreachable(error)
        return
    if base is None:
        return
    with closing(base):
        yield good(f"base de CEPs: {base.version}, {number(base.size)} CEPs")
        if base.skipped and settings.postal_base:
            found = f"base de CEPs: {many(base.skipped, 'linha ignorada', 'linhas ignoradas')}"
            fix = "Em cada linha: CEP de 8 dígitos da UF, e município da UF pelo nome oficial."
            yield warning(f"{found}, a primeira é a linha {base.first_skipped}.", fix)


def _unknown(given: Iterable[str]) -> Iterator[Finding]:
    known = known_names()
    for name in sorted(set(given) - known - _OTHERS):
        if name.startswith("OTEL_"):  # the SDK reads many more
            continue
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.88)
        if near or _OURS.fullmatch(name):
            meant = near or difflib.get_close_matches(name, known, n=1, cutoff=0.6)
            fix = f"Quis dizer {meant[0]}?" if meant else "Remova-a, ou confira o nome em docs/CONFIGURATION.md."
            yield warning(f"{name} não é lida por ninguém.", fix)


def _contradictions(settings: Settings) -> Iterator[Finding]:
    production = settings.environment == "production"
    if not (settings.address_normalization_enabled or settings.document_normalization_enabled):
        yield warning(
            "as duas normalizações estão desligadas: nada será feito.",
            "Ligue ADDRESS_ ou DOCUMENT_NORMALIZATION_ENABLED.",
        )
    if production and settings.debug:
        yield warning("DEBUG=True em produção.", "Defina DEBUG=False.")
    if production and settings.log_level == "DEBUG":
        yield warning("LOG_LEVEL=DEBUG em produção enche o log.", "Defina LOG_LEVEL=INFO.")
    in_url = urlsplit(settings.redis_url.get_secret_value()).password
    if in_url and settings.redis_password and unquote(in_url) != settings.redis_password.get_secret_value():
        yield warning("REDIS_URL e REDIS_PASSWORD trazem senhas diferentes; vale a da URL.", "Deixe só uma.")
    keys = {settings.openai_api_key, settings.openrouter_api_key} - {None}
    if len(keys) > 1:
        yield warning("OPENAI_API_KEY e OPENROUTER_API_KEY diferem; vale a primeira.", "Deixe só uma.")
    if settings.lease_s * 3 > settings.arq_job_timeout:
        yield warning(
            f"LEASE_S={settings.lease_s} é longo para ARQ_JOB_TIMEOUT={settings.arq_job_timeout}.", "Use LEASE_S=15."
        )
    if settings.shutdown_grace_s > settings.arq_job_timeout:
        yield warning("SHUTDOWN_GRACE_S é maior que ARQ_JOB_TIMEOUT.", "Use SHUTDOWN_GRACE_S=25.")
    if settings.shutdown_grace_s > 25:
        yield warning(
            f"SHUTDOWN_GRACE_S={settings.shutdown_grace_s:g}: o Coolify mata o contêiner após 30 s por padrão.",
            f"Ponha stop_grace_period em {math.ceil(settings.shutdown_grace_s) + 10}s ou mais, aqui e no Coolify.",
        )


def _plan(settings: Settings) -> Iterator[Finding]:
    """Whether what one replica may hold at once can be asked within ARQ_JOB_TIMEOUT."""
    if settings.openai_api_key is None or not settings.address_normalization_enabled:
        return
    seconds = plan_s(settings)
    if seconds > settings.arq_job_timeout:
        yield warning(
            f"uma réplica cheia precisaria de {seconds:.0f} s de IA, e ARQ_JOB_TIMEOUT é {settings.arq_job_timeout} s: "
            "o que não couber volta à fila (nada falha, mas há idas e vindas).",
            "Diminua ARQ_MAX_JOBS ou BATCH_MAX_ITEMS; aumentar ARQ_JOB_TIMEOUT não acelera nada.",
        )


def plan_s(settings: Settings) -> float:
    """How long the model needs for the texts one full replica holds, by concurrency, requests and tokens."""
    records = _RESIDUAL * settings.arq_max_jobs * settings.batch_max_items
    calls = math.ceil(records / settings.llm_records_per_call)
    limits = [calls / settings.llm_max_concurrency * _CALL_S]
    if settings.llm_rpm:
        limits.append(60 * calls / settings.llm_rpm)
    if settings.llm_tpm:
        limits.append(60 * records * _TOKENS_PER_RECORD / settings.llm_tpm)
    return max(limits)


# Scripts read the time and write (Redis 5: effects are replicated); arq itself asks for no more.
_OLDEST_REDIS: Final = (5, 0)
_MAX_SKEW_S: Final = 1.0


def unreachable(error: Misconfigured | TransientError) -> Finding:
    """The service cannot be used at all."""
    if isinstance(error, Misconfigured):
        return Finding(Level.SETTING, error.problem, error.fix)
    return Finding(Level.AWAY, str(error), "Confira se o serviço está no ar e na mesma rede do worker.")


# -- Redis ------------------------------------------------------------------------------------------------------------


async def check_redis(redis: Redis) -> list[Finding]:
    """Version, memory policy, persistence, clock, and whether scripts may run."""
    started, before = time.time(), time.perf_counter()
    try:
        seconds, micros = await redis.time()
        took_s = time.perf_counter() - before
        info: Mapping[str, Any] = await redis.info()
        scripts = await _scripts_run(redis)
        configured = await _configured(redis)
    except ResponseError as error:
        fix = "Dê ao usuário do Redis os comandos INFO, TIME, EVAL e EVALSHA (ACL)."
        return [wrong(f"o Redis recusou um comando ({type(error).__name__}).", fix)]
    except (RedisError, OSError) as error:
        return [Finding(Level.AWAY, f"o Redis parou de responder ({type(error).__name__}).", "Veja o log dele.")]
    skew_s = abs(float(seconds) + float(micros) / 1e6 - (started + took_s / 2)) - took_s / 2
    return [
        *_version(info, took_s),
        *scripts,
        *_memory(info),
        *_persistence(info),
        *configured,
        *_clock(skew_s),
        *_role(info),
    ]


async def _configured(redis: Redis) -> list[Finding]:
    """What only CONFIG tells; where an ACL keeps it from us, nobody can say."""
    try:
        syncs: Mapping[str, Any] = await redis.config_get("appendfsync")
        tells: Mapping[str, Any] = await redis.config_get("notify-keyspace-events")
    except ResponseError:
        return []
    found = []
    if syncs.get("appendfsync") == "no":
        fix = "Configure appendfsync everysec: com no, uma queda da máquina perde até meio minuto da fila."
        found.append(warning("appendfsync é no.", fix))
    events = tells.get("notify-keyspace-events")  # None where the server knows no such events
    if events is not None and not ("K" in events and ("z" in events or "A" in events)):
        fix = "Configure notify-keyspace-events Kz: sem isso, um job avulso do backend espera até 0,6 s para começar."
        found.append(warning("o Redis não avisa de jobs novos.", fix))
    return found


async def _scripts_run(redis: Redis) -> list[Finding]:
    try:
        await redis.eval("return redis.call('TIME')[1]", 0)  # type: ignore[misc] # redis-py's own union
    except ResponseError:
        return [wrong("scripts Lua não são permitidos a este usuário.", "Libere EVAL e EVALSHA na ACL do Redis.")]
    return []


def _version(info: Mapping[str, Any], took_s: float) -> Iterator[Finding]:
    version = str(info.get("redis_version", "?"))
    name = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {version}"
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < _OLDEST_REDIS:
        yield wrong(f"{name} é antigo demais.", "Use Redis 7 ou Valkey 8.")
    else:
        yield good(f"{name}, responde em {number(took_s * 1000, 1)} ms")


def _memory(info: Mapping[str, Any]) -> Iterator[Finding]:
    policy = str(info.get("maxmemory_policy", "noeviction"))
    limit, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    if policy != "noeviction" and limit:
        fix = "Configure maxmemory-policy noeviction: com outra política o Redis cheio apaga jobs sem avisar."
        yield wrong(f"maxmemory-policy é {policy}.", fix)
    elif policy != "noeviction":
        yield warning(f"maxmemory-policy é {policy} (sem maxmemory, ainda sem efeito).", "Use noeviction.")
    if limit and used > 0.85 * limit:
        yield warning(f"{used / limit:.0%} da memória do Redis em uso.", "Aumente maxmemory ou veja docs/TUNING.md.")
    elif policy == "noeviction":
        yield good(f"memória: {used / 2**20:.0f} MB em uso, noeviction")


def _persistence(info: Mapping[str, Any]) -> Iterator[Finding]:
    if int(info.get("aof_enabled", 0)):
        if str(info.get("aof_last_write_status", "ok")) != "ok":
            yield wrong("a última escrita do AOF falhou.", "Veja espaço em disco e permissões do volume do Redis.")
        else:
            yield good("persistência: AOF ligado")
        return
    fix = "Ligue appendonly yes. Sem AOF um reinício perde a fila; reconcile a refaz do MongoDB em até 7 minutos."
    yield warning("AOF desligado.", fix)


def _clock(skew_s: float) -> Iterator[Finding]:
    if skew_s > _MAX_SKEW_S:
        fix = "Acerte a hora (NTP) da máquina do worker ou do Redis: prazos e adiamentos dependem dela."
        yield warning(f"o relógio do Redis difere {number(skew_s, 1)} s do desta máquina.", fix)
    else:
        yield good("relógios iguais")


def _role(info: Mapping[str, Any]) -> Iterator[Finding]:
    if str(info.get("role", "master")) != "master":
        yield wrong("este Redis é uma réplica somente de leitura.", "Aponte REDIS_URL para o primário.")


# -- MongoDB ----------------------------------------------------------------------------------------------------------


def check_mongodb(found: Diagnosis) -> Iterator[Finding]:
    """Version, rights and indexes."""
    latency = f"responde em {number(found.latency_ms, 1)} ms, {found.appointments} agendamentos"
    yield good(f"MongoDB {found.version}, {latency}")
    if found.may_write:
        yield good("pode gravar em appointments")
    else:
        yield wrong("o usuário não pode gravar em appointments.", "Dê a ele readWrite em DATABASE_NAME.")
    if found.missing_indexes:
        fix = "O worker os cria ao iniciar; se já iniciou, dê ao usuário o direito createIndex."
        yield warning(f"faltam índices: {', '.join(found.missing_indexes)}.", fix)
    else:
        yield good("índices no lugar")
    yield from (warning(problem, fix) for problem, fix in found.weakened)
    if found.repeated_ids:
        fix = "Procure-os com $group em id e dê a cada agendamento um id só seu; depois apague normalizer_id_plain."
        yield warning("há agendamentos com o mesmo id: o índice de id não pôde ser único.", fix)


# -- the receiver of events -------------------------------------------------------------------------------------------


async def check_receiver(settings: Settings) -> list[Finding]:
    """Send a test event to WEBHOOK_URL; nothing where none is set. Raises Misconfigured like `webhook_of`."""
    if settings.webhook_url is None:
        return []
    webhook = webhook_of_settings(settings)
    try:
        answer = await webhook.send(Event(f"msg_{secrets.token_hex(12)}", "test", datetime.now(UTC), {}))
    finally:
        await webhook.close()
    if isinstance(answer, Refused):
        return [wrong(f"o evento de teste não foi recebido: {answer.reason}.", "Veja docs/EVENTOS.md.")]
    return [good("o destino recebeu um evento de teste")]


async def check_untold(store: AppointmentStore) -> list[Finding]:
    """What no receiver took."""
    untold = await store.outbox().count_failed()
    fix = "Quando o destino voltar: normalizer events --resend"
    return [warning(f"{many(untold, 'evento')} sem entrega; por quê: normalizer events.", fix)] if untold else []


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
        return [good("não é usada: ADDRESS_NORMALIZATION_ENABLED=false")]
    if key is None:
        fix = "Defina OPENAI_API_KEY; depois: normalizer retry --review"
        return [warning("sem OPENAI_API_KEY: só regras e cache, o resto espera em revisão.", fix)]
    findings = list(_price(settings.openai_model))
    if not ask:
        return [*findings, good("não foi chamada (--offline)")]
    try:
        client = LlmClient(api_key=key.get_secret_value(), model=settings.openai_model, base_url=settings.base_url)
    except Misconfigured as error:
        return [*findings, unreachable(error)]
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
            good(f"os workers pedem respostas em {model_status.capabilities.mode.value} (lembrado no Redis)")
        )
    if model_status.stopped is not None:
        fix = "Chave, conta ou modelo: corrija no provedor. Orçamento: aumente DAILY_BUDGET_USD ou espere amanhã."
        findings.append(warning(f"a IA está parada: {model_status.stopped}", fix))
    return findings


def _price(model: str) -> Iterator[Finding]:
    if price(model).listed:
        yield good(f"{model}: preço conhecido (tabela de {prices_as_of()})")
    else:
        fix = "O custo é estimado pelo modelo mais caro da tabela; acrescente-o a normalizer/llm/prices.json."
        yield warning(f"{model} não está na tabela de preços.", fix)


async def _call(
    client: LlmClient, settings: Settings, memory: CapabilityStore | None, ledger: Ledger | None
) -> list[Finding]:
    try:
        answer = await _ask(client, ledger)
    except Misconfigured as error:
        return [wrong(f"{error.problem}{_said(error)}", error.fix), *await _known_models(client, settings)]
    except TransientError as error:
        fix = "Confira a rede de saída e o estado do provedor; o worker segue com regras e cache."
        return [Finding(Level.AWAY, f"o provedor não respondeu ({type(error).__name__}).", fix)]
    except UnusableAnswer as error:
        return [wrong(f"o provedor não dá resposta que se possa ler: {error}.", _TRY_ANOTHER)]
    except BatchRejected as error:
        return [wrong(f"o provedor recusou um pedido comum.{_said(error)}", _TRY_ANOTHER)]
    if memory is not None:
        await memory.remember(client.capabilities)
    findings = [good(f"{settings.openai_model} respondeu em {number(answer.seconds, 1)} s")]
    if client.capabilities.mode is Mode.STRICT:
        findings.append(good("aceita o esquema JSON estrito"))
    else:
        fix = "Funciona, com mais respostas a repetir; prefira um modelo com structured outputs."
        findings.append(warning(f"o endpoint não aceita esquema estrito (usa {client.capabilities.mode.value}).", fix))
    findings += _adapted(client.capabilities)
    if not any(slot and any(slot.values()) for slot in answer.slots):
        fix = "Compare com `normalizer normalize address` antes de confiar neste modelo."
        findings.append(warning("o modelo não soube ler um endereço fácil.", fix))
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
        yield good(f"o endpoint é chamado sem {', '.join(sorted(found.without))}, que não aceita")
    if found.renamed:
        yield good("o endpoint toma o limite de tokens pelo outro nome (max_tokens, max_completion_tokens)")


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
    return [wrong(f"o endpoint não oferece {settings.openai_model}.", "Corrija OPENAI_MODEL.")]


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
            yield warning(f"{name}={ours}, e o provedor permite {theirs}.", f"Defina {name}={theirs}.")
        else:
            yield good(f"{name}={ours} cabe no limite do provedor ({theirs})")
    if not seen:
        where = " (a OpenRouter não os diz)" if "openrouter.ai" in (settings.base_url or "") else ""
        yield good(f"o provedor não informou limites{where}; valem LLM_RPM e LLM_TPM")
