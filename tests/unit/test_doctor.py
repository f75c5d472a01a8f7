from __future__ import annotations

from pathlib import Path

import pytest

from normalizer.operations.doctor import checks
from normalizer.operations.doctor.checks import Finding, Level, Report, check, given_names, known_names, plan_s
from normalizer.operations.doctor.privacy import check_settings, personal
from normalizer.runtime import outdated_python
from normalizer.settings import settings_of


@pytest.fixture(autouse=True)
def mended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever patch of Python runs here."""
    monkeypatch.setattr(checks, "outdated_python", lambda: "")


def test_a_python_that_is_not_mended_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "outdated_python", lambda: outdated_python((3, 11, 7)))
    assert said({}).startswith("Python 3.11.7 é anterior a 3.11.14")


def said(environment: dict[str, str], *names: str) -> str:
    findings = check(settings_of(environment), names or environment)
    return "\n".join(f"{finding.what} {finding.fix}" for finding in findings if finding.level is not Level.OK)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("ARQ_MAX_JOB", "Quis dizer ARQ_MAX_JOBS?"),
        ("ARQ_JOBS_TIMEOUT", "Quis dizer ARQ_JOB_TIMEOUT?"),
        ("OPEN_AI_API_KEY", "Quis dizer OPENAI_API_KEY?"),
        ("LLM_COLOUR", "confira o nome"),
    ],
)
def test_a_variable_nobody_reads_is_named_with_its_likely_meaning(name: str, meant: str) -> None:
    assert meant in said({}, name)
    assert name in said({}, name)


def test_names_of_the_deployed_system_and_of_the_world_are_known() -> None:
    assert said({}, *known_names(), "PATH", "HOME", "OPENAI_ORG_ID", "HOSTNAME", "SOURCE_COMMIT", "TZ") == ""


def test_names_in_a_dotenv_count(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("# ARQ_NOT=1\nexport ARQ_MAX_JOB=3\nLOG_LEVEL = INFO\n", encoding="utf-8")

    assert given_names({"PATH": "x"}, file) == {"PATH", "ARQ_MAX_JOB", "LOG_LEVEL"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"ADDRESS_NORMALIZATION_ENABLED": "false", "DOCUMENT_NORMALIZATION_ENABLED": "false"}, "nada será feito"),
        ({"ENVIRONMENT": "production", "DEBUG": "true"}, "DEBUG=True em produção"),
        ({"REDIS_URL": "redis://:a@h", "REDIS_PASSWORD": "b"}, "senhas diferentes"),
        ({"LEASE_S": "15", "ARQ_JOB_TIMEOUT": "20"}, "LEASE_S=15"),
        ({"SHUTDOWN_GRACE_S": "60"}, "stop_grace_period em 70s"),
        ({"OPENAI_API_KEY": "k", "LLM_RPM": "1", "LLM_TPM": "0"}, "volta à fila"),
    ],
)
def test_contradictions_are_said_without_a_secret(environment: dict[str, str], expected: str) -> None:
    assert expected in said(environment)


def test_the_defaults_contradict_nothing_and_the_plan_fits() -> None:
    settings = settings_of({"OPENAI_API_KEY": "k"})

    assert said({"OPENAI_API_KEY": "k"}) == ""
    assert plan_s(settings) < settings.arq_job_timeout / 4


@pytest.mark.parametrize(
    ("levels", "code"),
    [
        ([Level.OK, Level.WARNING], 0),
        ([Level.WRONG, Level.OK], 1),
        ([Level.WRONG, Level.AWAY], 3),
        ([Level.AWAY, Level.SETTING], 2),
    ],
)
def test_the_exit_code_is_the_gravest(levels: list[Level], code: int) -> None:
    assert Report({"a": [Finding(level, "x") for level in levels]}).exit_code == code


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        (b"cpf=111.444.777-35", ["cpf"]),
        (b"11144477735", ["cpf"]),
        (b"111.444.777-36", []),
        (b"1114447773500", []),
        (b"(11) 91234-5678 a@b.com", ["telefone", "e-mail"]),
        (b'{"jobs": 250, "seconds": 0.648}', []),
    ],
)
def test_personal_data_are_known_by_their_shape_and_check_digits(text: bytes, kinds: list[str]) -> None:
    assert personal(text) == kinds


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"MONGODB_URL": "mongodb://u:p@db.example.com/"}, "MONGODB_URL: dados de pacientes passam sem cifra"),
        ({"REDIS_URL": "redis://cache.example.com:6379"}, "REDIS_URL: dados de pacientes passam sem cifra"),
        ({"REDIS_URL": "redis://clinic-redis:6379"}, "REDIS_PASSWORD: acesso sem senha"),
        ({"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "https://llm.example.com/v1"}, "vão para llm.example.com"),
    ],
)
def test_lgpd_names_what_is_open(environment: dict[str, str], expected: str) -> None:
    found = check_settings(settings_of(environment))

    assert any(expected in finding.what and finding.fix for finding in found)


def test_lgpd_has_nothing_to_say_about_a_closed_system() -> None:
    closed = {
        "MONGODB_URL": "mongodb+srv://u:p@db.example.com/",
        "REDIS_URL": "rediss://:p@cache.example.com:6380",
        "CACHE_SECRET": "0123456789abcdef",
        "OPENAI_API_KEY": "k",
        "OPENROUTER_API_KEY": "k",
    }

    assert {finding.level for finding in check_settings(settings_of(closed))} == {Level.OK}
