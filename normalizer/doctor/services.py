"""Redis, MongoDB and the model provider: reached, of the right kind, and set up so that nothing is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from arq.constants import default_queue_name
from redis.exceptions import RedisError, ResponseError

from normalizer.doctor import privacy
from normalizer.doctor.finding import Finding, Level, good, warning, wrong
from normalizer.errors import BatchRejected, Misconfigured, TransientError
from normalizer.llm.client import LlmClient, Mode
from normalizer.llm.pricing import price, prices_as_of
from normalizer.llm.prompt import Record
from normalizer.llm.stated import Stated

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from normalizer.llm.standing import Standing
    from normalizer.settings import Settings
    from normalizer.store import AppointmentStore

REDIS: Final = "Redis"
MONGODB: Final = "MongoDB"
MODEL: Final = "IA"
# Scripts read the time and write (Redis 5: effects are replicated); arq itself asks for no more.
_OLDEST_REDIS: Final = (5, 0)
_MAX_SKEW_S: Final = 1.0
_SAMPLE: Final = "Jardim Aurora, 12, rua das Acácias, SP, Campinas"  # synthetic


def unreachable(area: str, error: Misconfigured | TransientError) -> Finding:
    """The service cannot be used at all."""
    if isinstance(error, Misconfigured):
        return Finding(area, Level.SETTING, error.problem, error.mend)
    return Finding(area, Level.AWAY, str(error), "Confira se o serviço está no ar e na mesma rede do worker.")


# -- Redis ------------------------------------------------------------------------------------------------------------


async def check_redis(redis: Redis) -> list[Finding]:
    """Version, memory policy, persistence, clock, and whether scripts may run."""
    started, before = time.time(), time.perf_counter()
    try:
        seconds, micros = await redis.time()
        took_s = time.perf_counter() - before
        info: Mapping[str, Any] = await redis.info()
        scripts = await _scripts_run(redis)
    except ResponseError as error:
        mend = "Dê ao usuário do Redis os comandos INFO, TIME, EVAL e EVALSHA (ACL)."
        return [wrong(REDIS, f"o Redis recusou um comando ({type(error).__name__}).", mend)]
    except (RedisError, OSError) as error:
        return [Finding(REDIS, Level.AWAY, f"o Redis parou de responder ({type(error).__name__}).", "Veja o log dele.")]
    skew_s = abs(float(seconds) + float(micros) / 1e6 - (started + took_s / 2)) - took_s / 2
    return [*_version(info, took_s), *scripts, *_memory(info), *_persistence(info), *_clock(skew_s), *_role(info)]


async def _scripts_run(redis: Redis) -> list[Finding]:
    try:
        await redis.eval("return redis.call('TIME')[1]", 0)  # type: ignore[misc] # redis-py's own union
    except ResponseError:
        return [
            wrong(REDIS, "scripts Lua não são permitidos a este usuário.", "Libere EVAL e EVALSHA na ACL do Redis.")
        ]
    return []


async def check_other_queue(redis: Redis, queue_name: str) -> list[Finding]:
    """A backend that names no queue puts its jobs in arq's own default, which the workers do not read."""
    try:
        waiting = await redis.zcard(default_queue_name)
    except (RedisError, OSError):
        return []  # `check_redis` has said so
    if not waiting:
        return []
    mend = f'No backend: create_pool(…, default_queue_name="{queue_name}"); depois enfileire de novo.'
    return [warning(REDIS, f"{waiting} jobs na fila padrão do arq ({default_queue_name}), que ninguém lê.", mend)]


def _version(info: Mapping[str, Any], took_s: float) -> Iterator[Finding]:
    version = str(info.get("redis_version", "?"))
    name = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {version}"
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < _OLDEST_REDIS:
        yield wrong(REDIS, f"{name} é antigo demais.", "Use Redis 7 ou Valkey 8.")
    else:
        yield good(REDIS, f"{name}, responde em {took_s * 1000:.1f} ms")


def _memory(info: Mapping[str, Any]) -> Iterator[Finding]:
    policy = str(info.get("maxmemory_policy", "noeviction"))
    limit, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    if policy != "noeviction" and limit:
        mend = "Configure maxmemory-policy noeviction: com outra política o Redis cheio apaga jobs sem avisar."
        yield wrong(REDIS, f"maxmemory-policy é {policy}.", mend)
    elif policy != "noeviction":
        yield warning(REDIS, f"maxmemory-policy é {policy} (sem maxmemory, ainda sem efeito).", "Use noeviction.")
    if limit and used > 0.85 * limit:
        yield warning(
            REDIS, f"{used / limit:.0%} da memória do Redis em uso.", "Aumente maxmemory ou veja docs/TUNING.md."
        )
    elif policy == "noeviction":
        yield good(REDIS, f"memória: {used / 2**20:.0f} MB em uso, noeviction")


def _persistence(info: Mapping[str, Any]) -> Iterator[Finding]:
    if int(info.get("aof_enabled", 0)):
        if str(info.get("aof_last_write_status", "ok")) != "ok":
            yield wrong(
                REDIS, "a última escrita do AOF falhou.", "Veja espaço em disco e permissões do volume do Redis."
            )
        else:
            yield good(REDIS, "persistência: AOF ligado")
        return
    mend = "Ligue appendonly yes. Sem AOF um reinício perde a fila; reconcile a refaz do MongoDB em até 7 minutos."
    yield warning(REDIS, "AOF desligado.", mend)


def _clock(skew_s: float) -> Iterator[Finding]:
    if skew_s > _MAX_SKEW_S:
        mend = "Acerte a hora (NTP) da máquina do worker ou do Redis: prazos e adiamentos dependem dela."
        yield warning(REDIS, f"o relógio do Redis difere {skew_s:.1f} s do desta máquina.", mend)
    else:
        yield good(REDIS, "relógios iguais")


def _role(info: Mapping[str, Any]) -> Iterator[Finding]:
    if str(info.get("role", "master")) != "master":
        yield wrong(REDIS, "este Redis é uma réplica somente de leitura.", "Aponte REDIS_URL para o primário.")


# -- MongoDB ----------------------------------------------------------------------------------------------------------


async def check_mongodb(store: AppointmentStore, *, lgpd: bool = False) -> list[Finding]:
    """Version, rights and indexes; with `lgpd` also that what should expire does."""
    try:
        found = await store.diagnose()
    except (Misconfigured, TransientError) as error:
        return [unreachable(MONGODB, error)]
    findings = [
        good(
            MONGODB,
            f"MongoDB {found.version}, responde em {found.latency_ms:.1f} ms, {found.appointments} agendamentos",
        )
    ]
    if found.may_write:
        findings.append(good(MONGODB, "pode gravar em appointments"))
    else:
        findings.append(
            wrong(MONGODB, "o usuário não pode gravar em appointments.", "Dê a ele readWrite em DATABASE_NAME.")
        )
    if found.missing_indexes:
        missing = ", ".join(found.missing_indexes)
        mend = "O worker os cria ao iniciar; se já iniciou, dê ao usuário o direito createIndex."
        findings.append(warning(MONGODB, f"faltam índices: {missing}.", mend))
    else:
        findings.append(good(MONGODB, "índices no lugar"))
    return [*findings, *(privacy.check_expiry(found.never_expiring) if lgpd else ())]


# -- the model --------------------------------------------------------------------------------------------------------


async def check_model(settings: Settings, *, ask: bool = True) -> list[Finding]:
    """Key, model, schema support, latency and limits, by one small paid call with a made-up address.

    Args:
        settings: key, endpoint, model and limits.
        ask: False makes no call at all.
    """
    key = settings.openai_api_key
    if not settings.address_normalization_enabled:
        return [good(MODEL, "não é usada: ADDRESS_NORMALIZATION_ENABLED=false")]
    if key is None:
        mend = "Defina OPENAI_API_KEY; depois: normalizer retry --review"
        return [warning(MODEL, "sem OPENAI_API_KEY: só regras e cache, o resto espera em revisão.", mend)]
    findings = list(_price(settings.openai_model))
    if not ask:
        return [*findings, good(MODEL, "não foi chamada (--offline)")]
    client = LlmClient(api_key=key.get_secret_value(), model=settings.openai_model, base_url=settings.base_url)
    try:
        return [*findings, *await _call(client, settings)]
    finally:
        await client.close()


def check_lane(standing: Standing | None) -> list[Finding]:
    """What the replicas have found out about the model lane by themselves."""
    if standing is None or not standing.has_key:
        return []
    findings = []
    if standing.habits is not None:
        findings.append(good(MODEL, f"os workers pedem respostas em {standing.habits.mode.value} (lembrado no Redis)"))
    if standing.stopped is not None:
        mend = "Chave, conta ou modelo: corrija no provedor. Orçamento: aumente DAILY_BUDGET_USD ou espere amanhã."
        findings.append(warning(MODEL, f"a IA está parada: {standing.stopped}", mend))
    return findings


def _price(model: str) -> Iterator[Finding]:
    if price(model).listed:
        yield good(MODEL, f"{model}: preço conhecido (tabela de {prices_as_of()})")
    else:
        mend = "O custo é estimado pelo modelo mais caro da tabela; acrescente-o a normalizer/llm/prices.json."
        yield warning(MODEL, f"{model} não está na tabela de preços.", mend)


async def _call(client: LlmClient, settings: Settings) -> list[Finding]:
    try:
        answer = await client.complete([Record.of(_SAMPLE)], max_tokens_out=200, timeout_s=30)
    except Misconfigured as error:
        return [wrong(MODEL, error.problem, error.mend), *await _known_models(client, settings)]
    except TransientError as error:
        mend = "Confira a rede de saída e o estado do provedor; o worker segue com regras e cache."
        return [Finding(MODEL, Level.AWAY, f"o provedor não respondeu ({type(error).__name__}).", mend)]
    except BatchRejected:
        return [wrong(MODEL, "o provedor recusou um pedido comum.", "Confira OPENAI_MODEL e OPENAI_BASE_URL.")]
    findings = [good(MODEL, f"{settings.openai_model} respondeu em {answer.seconds:.1f} s")]
    if client.mode is Mode.STRICT:
        findings.append(good(MODEL, "aceita o esquema JSON estrito"))
    else:
        mend = "Funciona, com mais respostas a repetir; prefira um modelo com structured outputs."
        findings.append(warning(MODEL, f"o endpoint não aceita esquema estrito (usa {client.mode.value}).", mend))
    if not any(slot and any(slot.values()) for slot in answer.slots):
        mend = "Compare com `normalizer normalize address` antes de confiar neste modelo."
        findings.append(warning(MODEL, "o modelo não soube ler um endereço fácil.", mend))
    return [*findings, *_limits(Stated.read(answer.headers), settings)]


async def _known_models(client: LlmClient, settings: Settings) -> list[Finding]:
    """When a call was refused: is it the model's name?"""
    try:
        names = await client.models()
    except (Misconfigured, TransientError, BatchRejected):
        return []
    if settings.openai_model in names:
        return []
    return [wrong(MODEL, f"o endpoint não oferece {settings.openai_model}.", "Corrija OPENAI_MODEL.")]


def _limits(stated: Stated, settings: Settings) -> Iterator[Finding]:
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
