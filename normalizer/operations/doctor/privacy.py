"""`normalizer doctor --lgpd`: what is stored where, encrypted or not, whether logs and queue are clean; the record.

Nothing that is looked at is ever shown: findings hold counts, line numbers and key names of ours.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import structlog
from arq.constants import job_key_prefix, result_key_prefix
from arq.jobs import SerializationError, deserialize_job_raw
from redis.exceptions import RedisError

from normalizer.domain.document import cpf_is_valid
from normalizer.observability.logs import scrubbed
from normalizer.operations.doctor.checks import Finding, good, warning, wrong
from normalizer.queue.serializer import job_deserializer

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from normalizer.settings import Settings

_SAMPLED: Final = 50
_SEALED: Final = b"\x01"
_ELEVEN: Final = re.compile(rb"(?<!\d)(\d{3})\.?(\d{3})\.?(\d{3})-?(\d{2})(?!\d)")
_MAIL: Final = re.compile(rb"[\w.+-]+@[\w-]+\.[a-z]{2,}", re.IGNORECASE)
_PHONE: Final = re.compile(rb"\(\d{2}\)\s?9?\d{4}-?\d{4}")
_OPEN: Final = "a preencher"
_TRANSFER: Final = (
    "Se o provedor está fora do Brasil, transferência internacional (art. 33): na União Europeia e no EEE, decisão de "
    "adequação (Resolução CD/ANPD nº 32/2026); nos demais países, cláusulas-padrão contratuais (Resolução CD/ANPD nº "
    "19/2024)"
)
_CANARY: Final = "CPF 111.444.777-35"  # a valid number that nobody has


def check_settings(settings: Settings) -> list[Finding]:
    """What the settings alone say: links, encryption, who is asked."""
    mongo, redis = settings.mongodb_url.get_secret_value(), settings.redis_url.get_secret_value()
    return [
        good("MongoDB guarda os agendamentos em claro (nome, endereço, documento): é a fonte, e o único lugar."),
        *_link(
            "MONGODB_URL", mongo, encrypted="mongodb+srv" in mongo or re.search(r"(tls|ssl)=true", mongo) is not None
        ),
        *_password("MONGODB_URL", urlsplit(mongo.split(",", 1)[0]).password is not None, mongo),
        *_link("REDIS_URL", redis, encrypted=redis.startswith(("rediss://", "unix://"))),
        *_password("REDIS_PASSWORD", bool(settings.redis_password or urlsplit(redis).password), redis),
        _cache(settings),
        *_provider(settings),
        good(
            f"resultados de jobs somem do Redis após ARQ_KEEP_RESULT={settings.arq_keep_result} s; cache após 90 dias"
        ),
    ]


def _link(name: str, url: str, *, encrypted: bool) -> Iterator[Finding]:
    if encrypted:
        yield good(f"{name}: ligação cifrada")
    elif is_internal(url):
        yield good(f"{name}: sem TLS, em rede interna")
    else:
        fix = "Use tls=true (MongoDB) ou rediss:// (Redis), ou a rede interna do Coolify."
        yield warning(f"{name}: dados de pacientes passam sem cifra por um endereço público.", fix)


def is_internal(url: str) -> bool:
    """A bare service name, localhost or a private address."""
    host = urlsplit(url.split(",", 1)[0]).hostname or "localhost"
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith((".internal", ".local", ".localhost"))


def _password(name: str, given: bool, url: str) -> Iterator[Finding]:
    host = urlsplit(url.split(",", 1)[0]).hostname
    if not given and host not in {None, "localhost", "127.0.0.1", "::1"}:
        yield warning(f"{name}: acesso sem senha.", "Defina usuário e senha; quem lê ali lê dados de pacientes.")


def _cache(settings: Settings) -> Finding:
    whose = "CACHE_SECRET" if settings.cache_secret is not None else "segredo sorteado, guardado no MongoDB"
    return good(f"cache no Redis: chaves HMAC, valores cifrados (AES-GCM, {whose})")


def _provider(settings: Settings) -> Iterator[Finding]:
    if settings.openai_api_key is None or not settings.address_normalization_enabled:
        yield good("nenhum texto sai: a IA não é chamada")
        return
    yield good("à IA vão só textos de endereço, sem documento, telefone, e-mail ou nome reconhecível")
    host = urlsplit(settings.base_url or "https://api.openai.com").hostname or ""
    if host.endswith("openrouter.ai"):
        yield good("OpenRouter: só provedores que não guardam textos (data_collection=deny)")
    elif host == "api.openai.com":
        yield good("OpenAI: store=false; há transferência internacional (art. 33): cite-a no registro de operações")
    else:
        yield warning(f"textos de endereço vão para {host}.", "Confira contrato de operador e retenção de dados.")


def check_expiry(never_expiring: Sequence[str]) -> list[Finding]:
    """Whether what is kept for a while is let go: images for undo (a day), rows that could not be used (a week)."""
    if never_expiring:
        names = ", ".join(never_expiring)
        return [
            wrong(f"registros de {names} não expiram.", "Reinicie um worker: ele recria o índice normalizer_expiry.")
        ]
    return [good("MongoDB: cópias para desfazer somem em 24 h, linhas recusadas em 7 dias")]


# -- Redis holds ids and nothing else ---------------------------------------------------------------------------------


async def check_redis(redis: Redis, queue_name: str) -> list[Finding]:
    """Look into samples of jobs, results and cache values."""
    try:
        return [await _jobs(redis, queue_name), await _results(redis), await _cache_values(redis)]
    except RedisError as error:
        return [warning(f"o Redis não deixou ler amostras ({type(error).__name__}).", "Rode de novo.")]


async def _jobs(redis: Redis, queue_name: str) -> Finding:
    names: Sequence[bytes] = await redis.zrange(queue_name, 0, _SAMPLED - 1)
    payloads: list[bytes | None] = await redis.mget([job_key_prefix + name.decode() for name in names]) if names else []
    read = [payload for payload in payloads if payload]
    bad = sum(not _is_an_id_alone(payload) for payload in read)
    if bad:
        fix = "Enfileire só o id (TaskService().enqueue); argumentos aparecem em logs e resultados."
        return wrong(f"{bad} de {len(read)} jobs na fila levam mais que um id de agendamento.", fix)
    return good(f"fila: {len(read)} jobs lidos, só ids")


def _is_an_id_alone(payload: bytes) -> bool:
    try:
        _, args, kwargs, *_ = deserialize_job_raw(payload, deserializer=job_deserializer)
    except SerializationError:
        return False
    given = [*args, *kwargs.values()]
    return all(isinstance(value, str) and len(value) <= 200 for value in given) and not personal(payload)


async def _results(redis: Redis) -> Finding:
    found = await _sample(redis, f"{result_key_prefix}*")
    bad = sum(bool(personal(value)) for value in found)
    if bad:
        return wrong(f"{bad} de {len(found)} resultados trazem dado pessoal.", "Quem os grava? Veja o produtor.")
    return good(f"resultados: {len(found)} lidos, sem documento, telefone ou e-mail")


async def _cache_values(redis: Redis) -> Finding:
    found = await _sample(redis, "norm:c*r*:*")
    plain = sum(not value.startswith(_SEALED) for value in found)
    if plain:
        fix = "São de uma versão anterior; apague-os: normalizer cache purge --yes"
        return warning(f"{plain} de {len(found)} valores da cache estão em claro.", fix)
    return good(f"cache: {len(found)} valores lidos, {len(found) - plain} cifrados")


async def _sample(redis: Redis, pattern: str) -> list[bytes]:
    names: list[bytes] = []
    async for name in redis.scan_iter(match=pattern, count=1_000):
        names.append(name)
        if len(names) >= _SAMPLED:
            break
    values: list[bytes | None] = await redis.mget(names) if names else []
    return [value for value in values if value]


# -- logs -------------------------------------------------------------------------------------------------------------


def check_logs(files: Iterable[Path] = ()) -> list[Finding]:
    """The scrubbing itself, tried out; and log files that were given."""
    findings = [
        good("logs: exceções saem sem mensagem (provado agora)")
        if _scrubbing_works()
        else wrong("logs: mensagens de exceção aparecem.", "Chame configure_logging() antes de qualquer log.")
    ]
    return [*findings, *(_log_file(file) for file in files)]


def _scrubbing_works() -> bool:
    try:
        raise ValueError(_CANARY)
    except ValueError as error:
        event = scrubbed(structlog.get_logger(), "error", {"event": "canary", "exc_info": error})
    return _CANARY not in str(event)


def _log_file(file: Path) -> Finding:
    found: list[int] = []
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if personal(line):
                    found.append(number)
    except OSError as error:
        return warning(f"{file.name} não pôde ser lido ({error.strerror}).", "Confira o caminho.")
    if found:
        shown = ", ".join(map(str, found[:10])) + (" …" if len(found) > 10 else "")
        return wrong(
            f"{file.name}: {len(found)} linhas com dado pessoal ({shown}).", "Apague o arquivo e avise quem mantém."
        )
    return good(f"{file.name}: nenhum CPF, telefone ou e-mail")


def personal(text: bytes) -> list[str]:
    """What kinds of personal datum stand in it: a CPF whose check digits hold, a phone, a mail address."""
    kinds = []
    if any(cpf_is_valid(b"".join(groups).decode()) for groups in _ELEVEN.findall(text)):
        kinds.append("cpf")
    if _PHONE.search(text):
        kinds.append("telefone")
    if _MAIL.search(text):
        kinds.append("e-mail")
    return kinds


# -- the record of processing activities (LGPD, art. 37) ---------------------------------------------------------------


def processing_record(settings: Settings) -> Mapping[str, str]:
    """What `doctor --lgpd --registro` prints, by heading; no secret, no user name and no password in it.

    What the running configuration decides is filled in; what only the clinic knows stands as "a preencher".
    """
    return {
        "Operação": "Normalização de endereços e documentos dos agendamentos importados",
        "Controlador e encarregado": _OPEN,
        "Finalidade": "Agendar, confirmar e executar atendimentos e coletas no endereço do paciente",
        "Base legal (arts. 7º e 11)": _OPEN,
        "Titulares": "Pacientes com agendamento",
        "Dados": "Nome, telefone, endereço, CPF, RG, convênio, data e tipo do atendimento (dados de saúde)",
        "Onde ficam": (
            f"MongoDB ({_host(settings.mongodb_url.get_secret_value())}, base {settings.database_name}): os "
            f"agendamentos. Redis ({_host(settings.redis_url.get_secret_value())}): ids de agendamentos e respostas "
            "cifradas"
        ),
        "Prazos": (
            f"Agendamentos: {_OPEN}. Cópias para desfazer uma importação: 24 horas. Linhas recusadas: 7 dias. "
            f"Resultados de jobs: {settings.arq_keep_result} s. Respostas na cache: 90 dias; correções, sem prazo"
        ),
        "Compartilhamento": ". ".join(_shared(settings)),
        "Segurança": (
            "Acesso por chave em dois papéis; documentos mascarados para leitores; cache com chaves HMAC e valores "
            "AES-GCM; logs, métricas e fila sem dado de paciente"
        ),
    }


def _host(url: str) -> str:
    host = urlsplit(url.split(",", 1)[0]).hostname or "localhost"
    return f"{host}, rede interna" if is_internal(url) else host


def _shared(settings: Settings) -> Iterator[str]:
    if settings.openai_api_key is None or not settings.address_normalization_enabled:
        yield "Nenhum texto sai desta instalação: a IA não é chamada"
    else:
        provider = urlsplit(settings.base_url or "https://api.openai.com").hostname
        yield (
            f"Provedor de IA ({provider}, modelo {settings.openai_model}), como operador: textos de endereço que "
            "regras e cache não resolvem, sem telefone, e-mail, documento nem nome reconhecível"
        )
        yield _TRANSFER
    if settings.sentry_dsn is not None:
        yield "Sentry: tipos de erro e lugares no código, nenhum dado pessoal"
    if settings.traces_endpoint is not None:
        yield "Coletor OpenTelemetry: tempos e contagens, nenhum dado pessoal"
