"""Connections to Redis: settings from a URL, pools that notice a dead link, their health, and the server's fitness.

A worker outlives its Redis: what broke is said once, with its fix, and so is that it is back; tries are spaced between.
"""

from __future__ import annotations

import asyncio
import ssl as ssl_module
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import hiredis
import structlog
from arq.connections import ArqRedis, RedisSettings
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    NoPermissionError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from normalizer.errors import Misconfigured, QueueUnavailable
from normalizer.queue.waiting import raise_if_cancelled

if TYPE_CHECKING:
    from arq.jobs import Deserializer, Serializer
    from redis.asyncio import Redis

log = structlog.get_logger(__name__)

T = TypeVar("T")

#: Longer than any script of ours runs, short enough that a link that swallows bytes is noticed within one lease.
SOCKET_TIMEOUT_S = 5.0
#: An idle connection is asked whether it still lives before it is used again.
HEALTH_CHECK_INTERVAL_S = 15
#: What a Redis that is away, restarting, read-only or full makes redis-py raise. None of it may end the process.
OUTAGE = (RedisError, OSError, asyncio.TimeoutError)

_FIX = "Corrija REDIS_URL, por exemplo redis://clinic-redis:6379/0 (a senha pode ficar em REDIS_PASSWORD)."
_TLS_OPTIONS = frozenset({"ssl_ca_certs", "ssl_cert_reqs", "ssl_certfile", "ssl_keyfile"})
#: Settings of arq's that redis-py knows by the same name.
_SAME_AT_ARQ = ("username", "password", "max_connections", "retry", "retry_on_error", "retry_on_timeout")
_SAME_WITH_TLS = (*sorted(_TLS_OPTIONS), "ssl_ca_data", "ssl_check_hostname")
_SECRET_FIELDS = frozenset({"password", "ssl_ca_data"})
_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 2.0
_REMIND_S = 30.0
#: What a server says that works but is full, a replica, or cannot save: it passes, unlike a key of a wrong type.
_PASSING = ("OOM", "READONLY", "MISCONF", "LOADING", "BUSY", "MASTERDOWN", "NOREPLICAS")


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
    while True:
        tries -= 1
        try:
            await pool.ping()
            return pool
        except (AuthenticationError, AuthorizationError) as error:
            await pool.aclose(close_connection_pool=True)
            raise Misconfigured(
                f"O Redis em {describe(settings)} recusou o usuário ou a senha.",
                fix="Confira REDIS_PASSWORD (ou a senha na REDIS_URL).",
            ) from error
        except OUTAGE as error:
            await pool.connection_pool.disconnect()
            if tries <= 0:
                await pool.aclose(close_connection_pool=True)
                raise _unreachable(settings, error) from error
            await asyncio.sleep(settings.conn_retry_delay)


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
        "encoding": "utf8",
        "socket_connect_timeout": settings.conn_timeout,
        "socket_timeout": SOCKET_TIMEOUT_S,
        "socket_keepalive": True,
        "health_check_interval": HEALTH_CHECK_INTERVAL_S,
    }
    kwargs |= {name: getattr(settings, name) for name in _SAME_AT_ARQ}
    if settings.sentinel:
        from redis.asyncio.sentinel import Sentinel  # noqa: PLC0415 — rare, and heavy

        sentinel = Sentinel(settings.host, ssl=settings.ssl, **kwargs)  # type: ignore[no-untyped-call]
        master: ArqRedis = sentinel.master_for(settings.sentinel_master, redis_class=ArqRedis)
        return master
    if settings.ssl:
        kwargs |= {"ssl": True} | {name: getattr(settings, name) for name in _SAME_WITH_TLS}
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


def is_damage(error: BaseException) -> bool:
    """Whether Redis answered that a key is of a wrong type or a script fails: no waiting mends that."""
    text = str(error)
    return type(error) is ResponseError and not any(word in text for word in _PASSING)


@dataclass(slots=True)
class RedisHealth:
    """What the worker knows about its connection to Redis."""

    where: str  # `host:port`, for logs
    #: A reply slower than this is treated as an outage, because other workers' renewals were probably delayed too.
    silence_s: float = float("inf")
    clock: Callable[[], float] = time.monotonic
    last_error: str | None = field(default=None, init=False)
    down_since: float | None = field(default=None, init=False)
    back_at: float | None = field(default=None, init=False)
    _wait_s: float = field(default=_FIRST_WAIT_S, init=False)
    _told_at: float = field(default=0.0, init=False)

    def opened(self) -> None:
        """The connection is up for the first time."""
        self.back_at = self.clock()

    def failed(self, error: BaseException) -> float:
        """Note a failure. Returns the seconds to wait before the next try (0.1 doubling to 2)."""
        now = self.clock()
        self.last_error = type(error).__name__
        if self.down_since is None:
            self.down_since, self._wait_s, self._told_at = now, _FIRST_WAIT_S, now
            log.warning("queue.redis.waiting", redis=self.where, error=self.last_error)
        elif now - self._told_at >= _REMIND_S:
            self._told_at = now
            log.warning("queue.redis.waiting", redis=self.where, error=self.last_error, seconds=self._away())
        wait = self._wait_s
        self._wait_s = min(_LONGEST_WAIT_S, wait * 2)
        return wait

    async def call(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call once, and note the answer and how long it took. Raises what `call` raises; that is noted by `failed`."""
        asked_at = self.clock()
        answer = await call()
        self._heard(self.clock() - asked_at)
        return answer

    def _heard(self, waited_s: float) -> None:
        if self.down_since is not None:
            log.info("queue.redis.back", redis=self.where, seconds=self._away())
            self.down_since, self.back_at = None, self.clock()
        elif waited_s > self.silence_s:
            log.warning("queue.redis.stood_still", redis=self.where, seconds=round(waited_s, 1))
            self.back_at = self.clock()

    def up_for(self, seconds: float) -> bool:
        """Whether the connection has been up for so long since its last break."""
        if self.down_since is not None:
            return False
        return self.back_at is None or self.clock() - self.back_at >= seconds

    async def retry_forever(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call until Redis takes it, however long that is. For calls that may be repeated.

        Raises:
            ResponseError: Redis works, and this call can never succeed (see `is_damage`).
        """
        while True:
            raise_if_cancelled()
            try:
                return await self.call(call)
            except OUTAGE as error:
                if is_damage(error):
                    raise
                await asyncio.sleep(self.failed(error))

    def _away(self) -> float:
        return round(self.clock() - (self.down_since or self.clock()), 1)


#: Everything that is newer or rarer than plain gets and sets, on a key that is not declared, as the scripts do it.
_PROBE: Final = """--!df flags=allow-undeclared-keys
local key = 'arq:probe:' .. redis.call('TIME')[1]
redis.call('ZADD', key, 'LT', 1, 'a')
redis.call('ZMSCORE', key, 'a')
redis.call('DEL', key)
redis.call('PUBLISH', key, '')
return #cmsgpack.unpack(cmsgpack.pack({1}))"""


async def server_problem(redis: Redis, where: str) -> Misconfigured | None:
    """Why the queue cannot work on this server, in one sentence with its fix; None if it can. Raises outages."""
    try:
        info = await redis.info("server")
        mode = str(info.get("redis_mode", info.get("server_mode", "standalone")))  # Valkey's own name
        if mode == "cluster":
            return Misconfigured(
                f"O Redis em {where} é um Cluster, e a fila (como o próprio ARQ) precisa de um Redis só.",
                fix="Aponte REDIS_URL para um Redis ou Valkey fora de cluster.",
            )
        if mode == "sentinel":
            return Misconfigured(
                f"Em {where} responde um Sentinel, não um Redis.",
                fix=f"Use REDIS_URL=redis+sentinel://{where}/mymaster, com o nome do primário no lugar de mymaster.",
            )
        await redis.eval(_PROBE, 0)  # type: ignore[misc] # redis-py's own union
    except ReadOnlyError:
        return Misconfigured(
            f"O Redis em {where} é uma réplica somente de leitura.", fix="Aponte REDIS_URL para o primário."
        )
    except NoPermissionError:
        return Misconfigured(
            f"O usuário do Redis em {where} não pode executar o que a fila usa (INFO, EVAL, EVALSHA e o que chamam).",
            fix="Dê a ele esses comandos na ACL do Redis.",
        )
    except ResponseError as error:
        return _unfit(error, where) if is_damage(error) else None
    return None


def _unfit(error: ResponseError, where: str) -> Misconfigured:
    said = str(error)[:160]
    if "undeclared key" in said:
        return Misconfigured(
            f"O Redis em {where} não deixa um script usar chaves que não declarou.",
            fix="No Dragonfly: --default_lua_flags=allow-undeclared-keys.",
        )
    return Misconfigured(
        f"O Redis em {where} não tem o que a fila usa ({said}).", fix="Use Redis 6.2 ou mais novo, ou Valkey."
    )
