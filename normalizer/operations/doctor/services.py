"""Redis, MongoDB and the receiver of events: reached, of the right kind, and set up so that nothing is lost."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError, ResponseError

from normalizer.domain.wording import many, number
from normalizer.errors import Misconfigured, TransientError
from normalizer.operations.doctor import privacy
from normalizer.operations.doctor.finding import Finding, Level, good, warning, wrong
from normalizer.operations.events import Refused
from normalizer.runtime import webhook_of_settings
from normalizer.store.outbox import Event

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from normalizer.settings import Settings
    from normalizer.store import AppointmentStore

REDIS: Final = "Redis"
MONGODB: Final = "MongoDB"
EVENTS: Final = "Eventos"
# Scripts read the time and write (Redis 5: effects are replicated); arq itself asks for no more.
_OLDEST_REDIS: Final = (5, 0)
_MAX_SKEW_S: Final = 1.0


def unreachable(area: str, error: Misconfigured | TransientError) -> Finding:
    """The service cannot be used at all."""
    if isinstance(error, Misconfigured):
        return Finding(area, Level.SETTING, error.problem, error.fix)
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
        configured = await _configured(redis)
    except ResponseError as error:
        fix = "Dê ao usuário do Redis os comandos INFO, TIME, EVAL e EVALSHA (ACL)."
        return [wrong(REDIS, f"o Redis recusou um comando ({type(error).__name__}).", fix)]
    except (RedisError, OSError) as error:
        return [Finding(REDIS, Level.AWAY, f"o Redis parou de responder ({type(error).__name__}).", "Veja o log dele.")]
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
    return [*_syncs(syncs.get("appendfsync", "")), *_tells(tells.get("notify-keyspace-events"))]


def _syncs(mode: str) -> Iterator[Finding]:
    """Whether the AOF reaches the disk."""
    if mode == "no":
        fix = "Configure appendfsync everysec: com no, uma queda da máquina perde até meio minuto da fila."
        yield warning(REDIS, "appendfsync é no.", fix)


def _tells(events: str | None) -> Iterator[Finding]:
    """Whether a stock producer's job wakes an idle worker; None where the server knows no such events."""
    if events is not None and not ("K" in events and ("z" in events or "A" in events)):
        fix = "Configure notify-keyspace-events Kz: sem isso, um job avulso do backend espera até 0,6 s para começar."
        yield warning(REDIS, "o Redis não avisa de jobs novos.", fix)


async def _scripts_run(redis: Redis) -> list[Finding]:
    try:
        await redis.eval("return redis.call('TIME')[1]", 0)  # type: ignore[misc] # redis-py's own union
    except ResponseError:
        return [
            wrong(REDIS, "scripts Lua não são permitidos a este usuário.", "Libere EVAL e EVALSHA na ACL do Redis.")
        ]
    return []


def _version(info: Mapping[str, Any], took_s: float) -> Iterator[Finding]:
    version = str(info.get("redis_version", "?"))
    name = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {version}"
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < _OLDEST_REDIS:
        yield wrong(REDIS, f"{name} é antigo demais.", "Use Redis 7 ou Valkey 8.")
    else:
        yield good(REDIS, f"{name}, responde em {number(took_s * 1000, 1)} ms")


def _memory(info: Mapping[str, Any]) -> Iterator[Finding]:
    policy = str(info.get("maxmemory_policy", "noeviction"))
    limit, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    if policy != "noeviction" and limit:
        fix = "Configure maxmemory-policy noeviction: com outra política o Redis cheio apaga jobs sem avisar."
        yield wrong(REDIS, f"maxmemory-policy é {policy}.", fix)
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
    fix = "Ligue appendonly yes. Sem AOF um reinício perde a fila; reconcile a refaz do MongoDB em até 7 minutos."
    yield warning(REDIS, "AOF desligado.", fix)


def _clock(skew_s: float) -> Iterator[Finding]:
    if skew_s > _MAX_SKEW_S:
        fix = "Acerte a hora (NTP) da máquina do worker ou do Redis: prazos e adiamentos dependem dela."
        yield warning(REDIS, f"o relógio do Redis difere {number(skew_s, 1)} s do desta máquina.", fix)
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
            f"MongoDB {found.version}, responde em {number(found.latency_ms, 1)} ms, {found.appointments} agendamentos",
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
        fix = "O worker os cria ao iniciar; se já iniciou, dê ao usuário o direito createIndex."
        findings.append(warning(MONGODB, f"faltam índices: {missing}.", fix))
    else:
        findings.append(good(MONGODB, "índices no lugar"))
    findings += [warning(MONGODB, problem, fix) for problem, fix in found.weakened]
    if found.repeated_ids:
        fix = "Procure-os com $group em id e dê a cada agendamento um id só seu; depois apague normalizer_id_plain."
        findings.append(warning(MONGODB, "há agendamentos com o mesmo id: o índice de id não pôde ser único.", fix))
    return [*findings, *(privacy.check_expiry(found.never_expiring) if lgpd else ())]


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
        return [wrong(EVENTS, f"o evento de teste não foi recebido: {answer.reason}.", "Veja docs/EVENTOS.md.")]
    return [good(EVENTS, "o destino recebeu um evento de teste")]


async def check_untold(store: AppointmentStore) -> list[Finding]:
    """What no receiver took."""
    untold = await store.outbox().count_failed()
    fix = "Quando o destino voltar: normalizer events --resend"
    return (
        [warning(EVENTS, f"{many(untold, 'evento')} sem entrega; por quê: normalizer events.", fix)] if untold else []
    )
