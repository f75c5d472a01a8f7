"""Settings that exist twice, contradict each other, or are not read by anybody."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from normalizer.domain.wording import many, number
from normalizer.errors import Misconfigured
from normalizer.operations.doctor.finding import Finding, Level, good, warning
from normalizer.postal import open_base
from normalizer.runtime import outdated_python
from normalizer.settings import Settings

if TYPE_CHECKING:
    from pydantic import SecretStr

AREA: Final = "Configuração"
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
    found = [*_unknown(given), *_contradictions(settings), *_plan(settings), *_python()]
    return [*(found or [good(AREA, "variáveis conhecidas e sem contradição")]), *_base(settings)]


def _base(settings: Settings) -> Iterator[Finding]:
    """Which postal base is asked; nothing where there is none, which is no fault."""
    try:
        base = open_base(settings.postal_base)
    except Misconfigured as error:
        yield Finding(AREA, Level.SETTING, error.problem, error.fix)
        return
    if base is None:
        return
    with closing(base):
        yield good(AREA, f"base de CEPs: {base.version}, {number(base.size)} CEPs")
        if base.skipped and settings.postal_base:
            found = f"base de CEPs: {many(base.skipped, 'linha ignorada', 'linhas ignoradas')}"
            fix = "Em cada linha: CEP de 8 dígitos da UF, e município da UF pelo nome oficial."
            yield warning(AREA, f"{found}, a primeira é a linha {base.first_skipped}.", fix)


def _python() -> Iterator[Finding]:
    if problem := outdated_python():
        yield warning(AREA, problem, "A imagem do Docker traz um mais novo.")


def _unknown(given: Iterable[str]) -> Iterator[Finding]:
    known = known_names()
    for name in sorted(set(given) - known - _OTHERS):
        if name.startswith("OTEL_"):  # the SDK reads many more
            continue
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.88)
        if near or _OURS.fullmatch(name):
            meant = near or difflib.get_close_matches(name, known, n=1, cutoff=0.6)
            fix = f"Quis dizer {meant[0]}?" if meant else "Remova-a, ou confira o nome em docs/CONFIGURATION.md."
            yield warning(AREA, f"{name} não é lida por ninguém.", fix)


def _contradictions(settings: Settings) -> Iterator[Finding]:
    production = settings.environment == "production"
    if not (settings.address_normalization_enabled or settings.document_normalization_enabled):
        yield warning(
            AREA,
            "as duas normalizações estão desligadas: nada será feito.",
            "Ligue ADDRESS_ ou DOCUMENT_NORMALIZATION_ENABLED.",
        )
    if production and settings.debug:
        yield warning(AREA, "DEBUG=True em produção.", "Defina DEBUG=False.")
    if production and settings.log_level == "DEBUG":
        yield warning(AREA, "LOG_LEVEL=DEBUG em produção enche o log.", "Defina LOG_LEVEL=INFO.")
    in_url = urlsplit(settings.redis_url.get_secret_value()).password
    if in_url and settings.redis_password and unquote(in_url) != settings.redis_password.get_secret_value():
        yield warning(AREA, "REDIS_URL e REDIS_PASSWORD trazem senhas diferentes; vale a da URL.", "Deixe só uma.")
    if _differ(settings.openai_api_key, settings.openrouter_api_key):
        yield warning(AREA, "OPENAI_API_KEY e OPENROUTER_API_KEY diferem; vale a primeira.", "Deixe só uma.")
    if settings.lease_s * 3 > settings.arq_job_timeout:
        yield warning(
            AREA,
            f"LEASE_S={settings.lease_s} é longo para ARQ_JOB_TIMEOUT={settings.arq_job_timeout}.",
            "Use LEASE_S=15.",
        )
    if settings.shutdown_grace_s > settings.arq_job_timeout:
        yield warning(AREA, "SHUTDOWN_GRACE_S é maior que ARQ_JOB_TIMEOUT.", "Use SHUTDOWN_GRACE_S=25.")
    if settings.shutdown_grace_s > 25:
        yield warning(
            AREA,
            f"SHUTDOWN_GRACE_S={settings.shutdown_grace_s:g}: o Coolify mata o contêiner após 30 s por padrão.",
            f"Ponha stop_grace_period em {math.ceil(settings.shutdown_grace_s) + 10}s ou mais, aqui e no Coolify.",
        )


def _differ(one: SecretStr | None, other: SecretStr | None) -> bool:
    return bool(one and other and one.get_secret_value() != other.get_secret_value())


def _plan(settings: Settings) -> Iterator[Finding]:
    """Whether what one replica may hold at once can be asked within ARQ_JOB_TIMEOUT."""
    if settings.openai_api_key is None or not settings.address_normalization_enabled:
        return
    seconds = plan_s(settings)
    if seconds > settings.arq_job_timeout:
        yield warning(
            AREA,
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
