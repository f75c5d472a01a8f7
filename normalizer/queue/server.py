"""Fitness of a Redis for this queue: what kind of server it is, and whether what our scripts use works there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from redis.exceptions import NoPermissionError, ReadOnlyError, ResponseError

from normalizer.errors import Misconfigured
from normalizer.queue.redis_health import is_damage

if TYPE_CHECKING:
    from redis.asyncio import Redis

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
