"""Connections to Redis: settings from a URL, pools that notice a dead link, errors that name the fix."""

from __future__ import annotations

import asyncio
import ssl as ssl_module
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import hiredis
from arq.connections import ArqRedis, RedisSettings
from redis.exceptions import AuthenticationError, AuthorizationError, RedisError

from normalizer.errors import Misconfigured, QueueUnavailable

if TYPE_CHECKING:
    from arq.jobs import Deserializer, Serializer
    from redis.asyncio import Redis

#: Longer than any script of ours runs, short enough that a link that swallows bytes is noticed within one lease.
SOCKET_TIMEOUT_S = 5.0
#: An idle connection is asked whether it still lives before it is used again.
HEALTH_CHECK_INTERVAL_S = 15
#: What a Redis that is away, restarting, read-only or full makes redis-py raise. None of it may end the process.
OUTAGE = (RedisError, OSError, asyncio.TimeoutError)

_FIX = "Corrija REDIS_URL, por exemplo redis://clinic-redis:6379/0 (a senha pode ficar em REDIS_PASSWORD)."
_TLS_OPTIONS = frozenset({"ssl_ca_certs", "ssl_cert_reqs", "ssl_certfile", "ssl_keyfile"})
_SECRET_FIELDS = frozenset({"password", "ssl_ca_data"})


@dataclass(repr=False)
class SafeRedisSettings(RedisSettings):
    """arq's settings whose `repr` does not print the password."""

    def __repr__(self) -> str:
        shown = {k: "***" if k in _SECRET_FIELDS and v else v for k, v in vars(self).items()}
        return f"RedisSettings({', '.join(f'{k}={v!r}' for k, v in shown.items())})"


def redis_settings(url: str, password: str | None = None, *, database: int | None = None) -> RedisSettings:
    """Settings for `redis:`, `rediss:`, `unix:` or `redis+sentinel:` URLs; user and password are percent-decoded.

    Args:
        url: e.g. `redis://user:p%40ss@host:6379/0`; `?db=1` works as well. Behind Sentinels
            `redis+sentinel://user:p%40ss@one:26379,two:26379/mymaster/0`: user and password are the primary's.
        password: used when the URL carries none (arq's own `from_dsn` ignores it).
        database: used when the URL names none (the backend's REDIS_DB).

    Raises:
        Misconfigured: the URL cannot be used; the message never holds a password.
    """
    try:
        parts = urlsplit(url.strip())
        if parts.scheme == "redis+sentinel":
            return _behind_sentinels(parts, password, database or 0)
        port = parts.port
    except ValueError:
        raise Misconfigured("REDIS_URL tem uma porta inválida.", fix=_FIX) from None
    if parts.scheme not in {"redis", "rediss", "unix"}:
        found = f"'{parts.scheme}://'" if parts.scheme and parts.netloc else "nenhum protocolo"
        wanted = "redis://, rediss://, unix:// ou redis+sentinel://"
        raise Misconfigured(f"REDIS_URL deve começar com {wanted}; encontrado {found}.", fix=_FIX)
    is_socket = parts.scheme == "unix"
    if is_socket and not parts.path:
        raise Misconfigured("REDIS_URL com unix:// precisa do caminho do socket.", fix=_FIX)
    if not is_socket and not parts.hostname:
        raise Misconfigured("REDIS_URL não diz o servidor.", fix=_FIX)
    return SafeRedisSettings(
        host=parts.hostname or "localhost",
        port=6379 if port is None else port,
        unix_socket_path=parts.path if is_socket else None,
        database=_database(parts, "" if is_socket else parts.path.strip("/"), database or 0),
        ssl=parts.scheme == "rediss",
        **_tls_options(parts.query),
        **_who(parts, password),
        conn_timeout=5,
    )


def _behind_sentinels(parts: SplitResult, password: str | None, database: int) -> RedisSettings:
    """Settings for what several Sentinels watch; the primary they name is asked for anew at each connection."""
    hosts = [urlsplit(f"//{each}") for each in parts.netloc.rpartition("@")[2].split(",")]
    name, _, number = parts.path.strip("/").partition("/")
    if not name or not all(each.hostname for each in hosts):
        fix = "Escreva REDIS_URL como redis+sentinel://sentinela1:26379,sentinela2:26379/mymaster/0."
        raise Misconfigured("REDIS_URL com redis+sentinel:// precisa dos sentinelas e do nome do primário.", fix=fix)
    return SafeRedisSettings(
        host=[(str(each.hostname), each.port or 26379) for each in hosts],
        sentinel=True,
        sentinel_master=name,
        database=_database(parts, number, database),
        **_who(parts, password),
        conn_timeout=5,
    )


def _who(parts: SplitResult, password: str | None) -> dict[str, Any]:
    given = unquote(parts.password) if parts.password else None
    return {"username": unquote(parts.username) if parts.username else None, "password": given or password or None}


def _tls_options(query: str) -> dict[str, Any]:
    return {name: values[-1] for name, values in parse_qs(query).items() if name in _TLS_OPTIONS}


def describe(settings: RedisSettings) -> str:
    """`host:port` as operators know it, for logs and messages; never a user or password."""
    if isinstance(settings.host, list):
        return f"{settings.sentinel_master} de {','.join(f'{host}:{port}' for host, port in settings.host)}"
    return settings.unix_socket_path or f"{settings.host}:{settings.port}"


async def open_pool(
    settings: RedisSettings,
    *,
    queue_name: str,
    job_serializer: Serializer | None = None,
    job_deserializer: Deserializer | None = None,
    expires_extra_ms: int = 86_400_000,
    attempts: int | None = None,
) -> ArqRedis:
    """A connected pool whose calls fail within `SOCKET_TIMEOUT_S` instead of hanging on a half-open link.

    Commands are not repeated by redis-py: a claim whose answer was lost must not run twice; callers repeat what may be.

    Args:
        settings: where; see `redis_settings`.
        queue_name: arq's default queue of the pool.
        job_serializer: see `normalizer.queue.serializer`; None is arq's pickle.
        job_deserializer: the same for reading.
        expires_extra_ms: how long a job may wait before arq calls it expired.
        attempts: connection attempts, one second apart; None takes them from `settings`.

    Raises:
        Misconfigured: Redis refuses the user, the password or the database.
        QueueUnavailable: Redis does not answer.
    """
    tries = settings.conn_retries + 1 if attempts is None else attempts
    pool = _pool(settings)
    pool.job_serializer, pool.job_deserializer = job_serializer, job_deserializer
    pool.default_queue_name, pool.expires_extra_ms = queue_name, expires_extra_ms
    for attempt in range(1, tries + 1):
        try:
            await pool.ping()
        except (AuthenticationError, AuthorizationError) as error:
            await pool.aclose(close_connection_pool=True)
            raise Misconfigured(
                f"O Redis em {describe(settings)} recusou o usuário ou a senha.",
                fix="Confira REDIS_PASSWORD (ou a senha na REDIS_URL).",
            ) from error
        except OUTAGE as error:
            await pool.connection_pool.disconnect()
            if attempt == tries:
                await pool.aclose(close_connection_pool=True)
                raise _unreachable(settings, error) from error
            await asyncio.sleep(settings.conn_retry_delay)
        else:
            return pool
    raise AssertionError("at least one attempt")  # pragma: no cover


async def reconnect_idle(pool: ArqRedis) -> None:
    """Close connections nobody uses, so that the next call resolves the name again (a failover moves it).

    `ConnectionPool.disconnect()` would also close one that somebody takes meanwhile: here it is out of the list first.
    """
    idle: list[Any] = getattr(pool.connection_pool, "_available_connections", [])
    closed = []
    while idle:
        closed.append(idle.pop())
        await closed[-1].disconnect(nowait=True)
    idle.extend(closed)


_EVEN_WHEN_FULL = """redis.call('DEL', KEYS[1])
local at = 1
while at < #ARGV do
  redis.call((unpack or table.unpack)(ARGV, at + 1, at + ARGV[at]))
  at = at + 1 + ARGV[at]
end"""


async def write_even_when_full(redis: Redis, key: str, *commands: Sequence[Any]) -> None:
    """Delete a small key and run small commands on one key each, also where Redis refuses what takes memory.

    Nothing after a script's first write is refused, and deleting never is.
    """
    flat = [part for command in commands for part in (len(command), *command)]
    keys = (key, *(command[1] for command in commands))  # declared, as Dragonfly wants it
    await redis.eval(_EVEN_WHEN_FULL, len(keys), *keys, *flat)  # type: ignore[misc] # redis-py's own union


def _pool(settings: RedisSettings) -> ArqRedis:
    kwargs: dict[str, Any] = {
        "db": settings.database,
        "username": settings.username,
        "password": settings.password,
        "encoding": "utf8",
        "socket_connect_timeout": settings.conn_timeout,
        "socket_timeout": SOCKET_TIMEOUT_S,
        "socket_keepalive": True,
        "health_check_interval": HEALTH_CHECK_INTERVAL_S,
        "max_connections": settings.max_connections,
        "retry": settings.retry,
        "retry_on_error": settings.retry_on_error,
        "retry_on_timeout": settings.retry_on_timeout,
    }
    if settings.sentinel:
        from redis.asyncio.sentinel import Sentinel  # noqa: PLC0415 — rare, and heavy

        sentinel = Sentinel(settings.host, ssl=settings.ssl, **kwargs)  # type: ignore[no-untyped-call]
        master: ArqRedis = sentinel.master_for(settings.sentinel_master, redis_class=ArqRedis)
        return master
    if settings.ssl:
        kwargs |= {
            "ssl": True,
            "ssl_keyfile": settings.ssl_keyfile,
            "ssl_certfile": settings.ssl_certfile,
            "ssl_cert_reqs": settings.ssl_cert_reqs,
            "ssl_ca_certs": settings.ssl_ca_certs,
            "ssl_ca_data": settings.ssl_ca_data,
            "ssl_check_hostname": settings.ssl_check_hostname,
        }
    pool = ArqRedis(host=settings.host, port=settings.port, unix_socket_path=settings.unix_socket_path, **kwargs)
    plain = pool.connection_pool.connection_class
    pool.connection_pool.connection_class = type(f"Packed{plain.__name__}", (_Packed, plain), {})
    return pool


class _Packed:
    """Packs commands in C: a settle of 250 jobs has a thousand arguments, six times dearer in redis-py's Python."""

    def pack_command(self, *args: Any) -> list[bytes]:
        name, *rest = args
        return [hiredis.pack_command((*str(name).split(), *rest))]


def _unreachable(settings: RedisSettings, error: BaseException) -> Exception:
    where = describe(settings)
    if isinstance(error, ssl_module.SSLError) or "SSL" in type(error).__name__:
        return Misconfigured(f"O Redis em {where} não aceitou TLS.", fix="Use redis:// se ele não fala TLS.")
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return Misconfigured(
            f"O certificado do Redis em {where} não é aceito.",
            fix="Passe a sua CA na URL: rediss://…?ssl_ca_certs=/caminho/ca.pem",
        )
    if "DB index" in text or "invalid DB" in text:
        return Misconfigured(f"O Redis em {where} não tem o banco {settings.database}.", fix=_FIX)
    if "NOAUTH" in text or "Authentication required" in text:
        return Misconfigured(f"O Redis em {where} pede senha.", fix="Defina REDIS_PASSWORD.")
    return QueueUnavailable(
        f"O Redis em {where} não responde ({type(error).__name__}). "
        "Confira se ele está no ar e se REDIS_URL aponta para ele."
    )


def _database(parts: SplitResult, in_path: str, otherwise: int) -> int:
    text = parse_qs(parts.query).get("db", [""])[0] or in_path
    if not text:
        return otherwise
    if not (text.isascii() and text.isdigit()):
        raise Misconfigured("O banco na REDIS_URL deve ser um número.", fix=_FIX)
    return int(text)
