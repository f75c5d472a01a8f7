from __future__ import annotations

import re
from itertools import zip_longest
from pathlib import Path

import pytest

from normalizer.errors import Misconfigured
from normalizer.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # no .env here
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("OPENROUTER_API_KEY", "OPENROUTER_BASE_URL", "OPENROUTER_MODEL"):
        monkeypatch.delenv(name, raising=False)


def test_defaults_are_those_of_the_deployed_system() -> None:
    settings = load_settings()

    assert (settings.arq_max_jobs, settings.arq_job_timeout, settings.arq_keep_result) == (10, 300, 3600)
    assert settings.address_normalization_enabled
    assert settings.document_normalization_enabled
    assert settings.openai_api_key is None
    assert settings.openai_model == "gpt-6-luna"


def test_reads_the_names_of_the_guide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARQ_MAX_JOBS", "3")
    monkeypatch.setenv("ENVIRONMENT", "Production")
    monkeypatch.setenv("DEBUG", "False")
    monkeypatch.setenv("LOG_LEVEL", "warning")
    monkeypatch.setenv("DOCUMENT_NORMALIZATION_ENABLED", "false")

    settings = load_settings()

    assert (settings.arq_max_jobs, settings.environment, settings.debug) == (3, "production", False)
    assert (settings.log_level, settings.document_normalization_enabled) == ("WARNING", False)


def test_an_empty_variable_is_an_absent_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "")
    monkeypatch.setenv("ARQ_MAX_JOBS", "")

    settings = load_settings()

    assert settings.openai_api_key is None
    assert settings.arq_max_jobs == 10


def test_openrouter_names_are_aliases_and_imply_its_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", "or-key")
    monkeypatch.setenv("OPENROUTER_MODEL", "vendor/model")

    settings = load_settings()

    assert settings.openai_api_key is not None
    assert settings.openai_api_key.get_secret_value() == "or-key"
    assert settings.openai_model == "vendor/model"
    assert settings.base_url == "https://openrouter.ai/api/v1"


def test_an_openai_key_goes_to_openai_even_beside_an_openrouter_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", "or-key")
    monkeypatch.setenv("OPENAI_API_KEY", "oa-key")

    settings = load_settings()

    assert settings.openai_api_key is not None
    assert settings.openai_api_key.get_secret_value() == "oa-key"
    assert settings.base_url is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ("arq:queue", "arq:queue:default")),
        ("a", ("a",)),
        (" a , b,a,", ("a", "b")),
    ],
)
def test_queue_names_are_read_in_order_and_once(
    monkeypatch: pytest.MonkeyPatch, value: str | None, expected: tuple[str, ...]
) -> None:
    if value is not None:
        monkeypatch.setenv("ARQ_QUEUE_NAMES", value)

    assert load_settings().arq_queue_names == expected


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("ARQ_QUEUE_NAMES", " , ", "ARQ_QUEUE_NAMES: "),
        ("ARQ_MAX_JOBS", "abc", "ARQ_MAX_JOBS: esperado um número; encontrado 'abc'"),
        ("ARQ_MAX_JOBS", "0", "ARQ_MAX_JOBS: esperado um número maior que 0; encontrado '0'"),
        ("DEBUG", "talvez", "DEBUG: esperado true ou false; encontrado 'talvez'"),
        ("ENVIRONMENT", "lua", "ENVIRONMENT: esperado 'development', 'staging', 'production' ou 'test'"),
        ("BATCH_MAX_ITEMS", "5000", "BATCH_MAX_ITEMS: esperado um número no máximo 1000"),
    ],
)
def test_a_wrong_value_is_named_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: str
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(Misconfigured, match=re.escape(expected)):
        load_settings()


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "REDIS_PASSWORD", "REDIS_URL", "MONGODB_URL", "CACHE_SECRET"):
        monkeypatch.setenv(name, "hunter2")

    assert "hunter2" not in repr(load_settings())


@pytest.mark.parametrize("headers", ["authorization hunter2", "x=y,hunter2", "hunter2", "é=hunter2"])
def test_headers_for_traces_are_checked_before_opentelemetry_quotes_them(
    monkeypatch: pytest.MonkeyPatch, headers: str
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", headers)

    with pytest.raises(Misconfigured, match="nome=valor") as refused:
        load_settings()

    assert "hunter2" not in str(refused.value)


def test_headers_for_traces_may_be_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Bearer a=b, x-team = clinic,")

    assert load_settings().otel_exporter_otlp_headers is not None


_SECRETS = [name.upper() for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)]


@pytest.mark.parametrize("name", [*_SECRETS, "OPENAI_BASE_URL", "OPENROUTER_API_KEY", "ARQ_MAX_JOBS", "LOG_LEVEL"])
@pytest.mark.parametrize("secret", ["sk-0123456789abcdefghij", "redis://:hunter2@host", "hunter2:x"])
def test_what_may_be_a_secret_is_never_echoed(monkeypatch: pytest.MonkeyPatch, name: str, secret: str) -> None:
    monkeypatch.setenv(name, f"'{secret}'")  # quotes are refused everywhere

    with pytest.raises(Misconfigured) as refused:
        load_settings()

    assert "(oculto)" in str(refused.value)
    assert secret not in str(refused.value)


def test_every_variable_of_the_example_file_exists_and_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    variables = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert {name.lower() for name in variables} <= set(Settings.model_fields)
    assert load_settings() == Settings()


TABLE = re.compile(r"^\| (`[A-Z_`, ()or]+) \|[^|]*\| ([^|]*) \|", re.MULTILINE)


def documented() -> dict[str, str]:
    """Each variable of docs/CONFIGURATION.md, with the default said for it; the first default of a row that has one."""
    page = (ROOT / "docs" / "CONFIGURATION.md").read_text(encoding="utf-8")
    found: dict[str, str] = {}
    for names, defaults in TABLE.findall(page):
        variables = re.findall(r"`(\w+)`", names)
        said = defaults.split(", ") if len(variables) > 1 else [defaults]
        found |= dict(zip_longest(variables, said[: len(variables)], fillvalue=""))
    return found


def test_the_configuration_page_and_the_settings_name_the_same_variables() -> None:
    assert set(documented()) == {name.upper() for name in Settings.model_fields}


def test_the_configuration_page_says_the_defaults_that_hold() -> None:
    said = documented()
    for name, field in Settings.model_fields.items():
        if type(field.default) in {int, float} and said[name.upper()]:
            shown = said[name.upper()].partition(" ")[0]
            assert float(shown) == field.default, name


@pytest.mark.parametrize(
    ("given", "model"),
    [
        ({"OPENROUTER_API_KEY": "k"}, "openai/gpt-6-luna"),
        ({"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "https://openrouter.ai/api/v1"}, "openai/gpt-6-luna"),
        ({"OPENROUTER_API_KEY": "k", "OPENAI_MODEL": "mistralai/small"}, "mistralai/small"),
        ({"OPENAI_API_KEY": "k"}, "gpt-6-luna"),
        ({"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "http://localhost:8080/v1"}, "gpt-6-luna"),
    ],
)
def test_each_endpoint_has_a_default_model_that_it_knows(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], model: str
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)

    assert load_settings().openai_model == model


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("OPENAI_API_KEY", '"sk-quoted"', "aspas"),
        ("OPENAI_API_KEY", "sk-two\nlines", "ASCII"),
        ("OPENAI_API_KEY", "sk-é", "ASCII"),
        ("OPENAI_API_KEY", "sk one", "ASCII"),
        ("OPENROUTER_API_KEY", "sk-é", "ASCII"),
        ("OPENAI_BASE_URL", "api.openai.com/v1", "https://"),
        ("OPENAI_BASE_URL", "https://host:porta/v1", "https://"),
        ("OPENAI_BASE_URL", "https://host:<PORT>/v1", "https://"),
        ("OPENAI_BASE_URL", "ftp://host/v1", "https://"),
        ("OPENAI_BASE_URL", "https:///v1", "https://"),
        ("OPENAI_MODEL", "'gpt-6-luna'", "aspas"),
        ("LLM_SERVICE_TIER", "batch", "default"),
    ],
)
def test_what_no_call_could_be_made_with_is_one_sentence_that_shows_no_secret(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(Misconfigured) as caught:
        load_settings()

    sentence = str(caught.value)
    assert name in sentence
    assert said in sentence
    assert "sk-" not in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize(("value", "read"), [(None, "Rua"), ("", ""), ("Logradouro", "Logradouro")])
def test_the_default_street_type_is_switched_off_by_being_empty(
    monkeypatch: pytest.MonkeyPatch, value: str | None, read: str
) -> None:
    monkeypatch.delenv("ADDRESS_DEFAULT_STREET_TYPE", raising=False)
    if value is not None:
        monkeypatch.setenv("ADDRESS_DEFAULT_STREET_TYPE", value)

    assert load_settings().address_default_street_type == read
