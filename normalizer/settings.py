"""Every environment variable the worker reads: its type, unit and default. The only place that reads the environment.

Names of the deployed system are kept as they are (`docs/COOLIFY_WORKER.md`); `OPENROUTER_*` are aliases of `OPENAI_*`.
Secrets are `SecretStr`: a settings object can be logged or raised without giving one away.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from normalizer.errors import Misconfigured

_OPENROUTER_BASE_URL = "https://openrouter.ai/api/v1"
_MODEL = "gpt-6-luna"
_MODEL_AT_OPENROUTER = "openai/gpt-6-luna"  # it knows a model only behind its vendor's name

Positive = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0)]


def _openai_or_openrouter(name: str) -> AliasChoices:
    return AliasChoices(f"OPENAI_{name}", f"OPENROUTER_{name}")


class Settings(BaseSettings):
    """The worker's configuration, read from the environment and from `.env`."""

    model_config = SettingsConfigDict(
        env_file=".env", env_file_encoding="utf-8", env_ignore_empty=True, extra="ignore", populate_by_name=True
    )

    environment: Literal["development", "staging", "production", "test"] = "development"
    debug: bool = False
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"

    mongodb_url: SecretStr = SecretStr("mongodb://localhost:27017/")
    database_name: str = Field(default="clinic_db", min_length=1, max_length=63)
    redis_url: SecretStr = SecretStr("redis://localhost:6379")
    redis_password: SecretStr | None = None
    redis_db: Annotated[int, Field(ge=0)] = 0

    openai_api_key: SecretStr | None = Field(default=None, validation_alias=_openai_or_openrouter("API_KEY"))
    openai_base_url: str | None = Field(default=None, validation_alias=_openai_or_openrouter("BASE_URL"))
    openai_model: str = Field(default=_MODEL, min_length=1, validation_alias=_openai_or_openrouter("MODEL"))
    openrouter_api_key: SecretStr | None = None

    address_normalization_enabled: bool = True
    document_normalization_enabled: bool = True
    address_default_street_type: Annotated[str, Field(pattern=r"^([A-ZÀ-Ý][a-zà-ÿ]{1,20})?$")] = "Rua"  # "": none

    arq_queue_names: Annotated[tuple[str, ...], NoDecode, Field(min_length=1)] = ("arq:queue", "arq:queue:default")
    arq_max_jobs: Positive = 10
    arq_job_timeout: Annotated[int, Field(ge=5)] = 300
    arq_keep_result: Annotated[int, Field(ge=0)] = 3600

    lease_s: Annotated[int, Field(ge=2)] = 15
    batch_max_items: Annotated[int, Field(gt=0, le=1000)] = 250
    batch_linger_ms: Annotated[int, Field(ge=0, le=10_000)] = 200
    shutdown_grace_s: Seconds = 25.0
    max_tries: Positive = 5

    llm_records_per_call: Annotated[int, Field(gt=0, le=50)] = 25
    llm_max_concurrency: Positive = 8
    llm_rpm: Annotated[int, Field(ge=0)] = 500
    llm_tpm: Annotated[int, Field(ge=0)] = 200_000
    llm_service_tier: Literal["default", "flex"] = "default"
    llm_max_pause_s: Seconds = 300.0
    daily_budget_usd: Annotated[float, Field(ge=0)] = 0.0

    sentry_dsn: SecretStr | None = None
    otel_exporter_otlp_endpoint: str | None = None
    otel_exporter_otlp_traces_endpoint: str | None = None
    otel_exporter_otlp_headers: SecretStr | None = None
    otel_service_name: str = "normalizer"
    otel_sdk_disabled: bool = False
    metrics_port: Annotated[int, Field(ge=0, le=65_535)] = 0
    metrics_host: str = Field(default="127.0.0.1", min_length=1)

    api_keys: SecretStr | None = None
    api_keys_readonly: SecretStr | None = None

    webhook_url: SecretStr | None = None
    webhook_secret: SecretStr | None = None
    webhook_allowed_hosts: str = ""
    events_stream: str | None = Field(default=None, min_length=1, max_length=200)

    postal_base: str = Field(default="", max_length=4_096)  # a CSV's path; "off"; empty: the package, if installed

    cache_secret: SecretStr | None = None
    cache_secret_previous: SecretStr | None = None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The usual sources, and behind them the one variable whose being empty is a value."""
        given = (init_settings, env_settings, dotenv_settings, file_secret_settings)
        return (*given, InitSettingsSource(settings_cls, _emptied(settings_cls)))

    @field_validator("arq_queue_names", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(dict.fromkeys(name for part in value.split(",") if (name := part.strip())))

    @field_validator("*", mode="before")
    @classmethod
    def _unquoted(cls, value: object) -> object:
        """Docker's `--env-file` keeps quotes that a shell and `.env` take away."""
        if isinstance(value, str) and len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            raise ValueError("tire as aspas em volta do valor")
        return value

    @field_validator("openai_api_key", "openrouter_api_key", mode="after")
    @classmethod
    def _sendable(cls, value: SecretStr | None) -> SecretStr | None:
        """A key travels in a header: printable ASCII, on one line."""
        if value is not None and not re.fullmatch(r"[!-~]+", value.get_secret_value()):
            raise ValueError("esperado só letras, números e sinais ASCII, numa linha e sem espaços")
        return value

    @field_validator("otel_exporter_otlp_headers", mode="after")
    @classmethod
    def _paired(cls, value: SecretStr | None) -> SecretStr | None:
        """OpenTelemetry itself leaves out what is no pair, and quotes it in the log."""
        for header in value.get_secret_value().split(",") if value is not None else ():
            if header.strip() and not re.fullmatch(r"[!#-'*+.0-9A-Z^-z|~-]+ *= *[ -:<-~]*", header.strip()):
                raise ValueError("esperado nome=valor, separados por vírgula")
        return value

    @field_validator("openai_base_url", mode="after")
    @classmethod
    def _reachable(cls, value: str | None) -> str | None:
        try:
            parts = urlsplit(value or _OPENROUTER_BASE_URL)
            usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError:  # a port that is no number
            usable = False
        if not usable:
            raise ValueError("esperado um endereço como https://api.openai.com/v1")
        return value

    @model_validator(mode="after")
    def _model_of_the_endpoint(self) -> Self:
        if "openai_model" not in self.model_fields_set and "openrouter.ai" in (self.base_url or ""):
            self.openai_model = _MODEL_AT_OPENROUTER
        return self

    @field_validator("environment", "llm_service_tier", "log_level", mode="before")
    @classmethod
    def _cased(cls, value: object, info: ValidationInfo) -> object:
        if not isinstance(value, str):
            return value
        return value.upper() if info.field_name == "log_level" else value.lower()

    @property
    def base_url(self) -> str | None:
        """The endpoint to call; None is OpenAI's own. OpenRouter's is implied by OPENROUTER_API_KEY alone."""
        if self.openai_base_url is None and self.openrouter_api_key and self.openai_api_key == self.openrouter_api_key:
            return _OPENROUTER_BASE_URL
        return self.openai_base_url

    @property
    def announces(self) -> bool:
        """Whether somebody is told what ended."""
        return self.webhook_url is not None or self.events_stream is not None

    @property
    def traces_endpoint(self) -> str | None:
        """Where traces go, as the OTLP exporter's specification has it; None is off."""
        if self.otel_sdk_disabled:
            return None
        if self.otel_exporter_otlp_traces_endpoint is not None:
            return self.otel_exporter_otlp_traces_endpoint
        base = self.otel_exporter_otlp_endpoint
        return None if base is None else f"{base.rstrip('/')}/v1/traces"


def _emptied(settings_cls: type[BaseSettings]) -> dict[str, Any]:
    """What is switched off by being empty in environment or `.env`."""
    name, sources = "address_default_street_type", (EnvSettingsSource, DotEnvSettingsSource)
    found = [source(settings_cls, env_ignore_empty=False)().get(name) for source in sources]
    return {name: ""} if "" in found else {}


def load_settings() -> Settings:
    """Read the environment.

    Raises:
        Misconfigured: a variable has a value that cannot be used; the message names each one, and no secret value.
    """
    try:
        return Settings()
    except ValidationError as error:
        raise Misconfigured(_explain(error), fix="Corrija a variável e inicie de novo.") from None


def settings_of(environment: Mapping[str, str]) -> Settings:
    """Settings of exactly these variables: neither the process's environment nor a `.env` has a say."""
    values: dict[str, Any] = {name.lower(): value for name, value in environment.items()}
    return _Given(**values)


class _Given(Settings):
    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *_: PydanticBaseSettingsSource,
        **__: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def _explain(error: ValidationError) -> str:
    parts = []
    for problem in error.errors():
        name = str(problem["loc"][0]).upper() if problem["loc"] else "configuração"
        found = problem["input"]
        shown = "(oculto)" if _may_be_secret(name, str(found)) else repr(str(found))
        parts.append(f"{name}: {expected(problem['type'], problem.get('ctx') or {})}; encontrado {shown}.")
    return " ".join(parts)


def _may_be_secret(name: str, value: str) -> bool:
    """Whether a value is a secret's, or one that was pasted behind the wrong name: only short words are shown."""
    field = Settings.model_fields.get(name.lower())
    kept = field is None or "SecretStr" in str(field.annotation) or name.endswith("_URL")
    return kept or not re.fullmatch(r"[\w .,+-]{0,20}", value)


def expected(kind: str, context: Mapping[str, object]) -> str:
    """What a value should have been, of the kind of pydantic's error and its context."""
    bounds = {"greater_than": ("gt", "maior que"), "greater_than_equal": ("ge", "no mínimo")}
    bounds |= {"less_than": ("lt", "menor que"), "less_than_equal": ("le", "no máximo")}
    if kind in bounds:
        key, words = bounds[kind]
        return f"esperado um número {words} {context.get(key)}"
    if kind.startswith(("int_", "float_")):
        return "esperado um número"
    if kind.startswith("bool_"):
        return "esperado true ou false"
    if kind == "value_error":
        return str(context.get("error"))
    if kind == "literal_error":
        return f"esperado {str(context.get('expected')).replace(' or ', ' ou ')}"
    return "valor inválido"
