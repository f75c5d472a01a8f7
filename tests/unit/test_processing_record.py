"""The register entry says what the configuration decides, and no secret."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from normalizer.cli import app
from normalizer.operations.doctor.privacy import processing_record
from normalizer.settings import settings_of

GIVEN = {
    "MONGODB_URL": "mongodb://ana:segredo1@mongo.example.com:27017/",
    "REDIS_URL": "redis://:segredo2@clinic-redis:6379",
    "OPENAI_API_KEY": "segredo3",
}


def test_it_names_where_data_are_and_who_gets_them_and_no_secret() -> None:
    record = processing_record(settings_of(GIVEN | {"SENTRY_DSN": "https://segredo4@sentry.example.com/1"}))
    said = " ".join(record.values())

    assert "mongo.example.com, base clinic_db" in record["Onde ficam"]
    assert "clinic-redis, rede interna" in record["Onde ficam"]
    assert "api.openai.com, modelo gpt-6-luna" in record["Compartilhamento"]
    assert all(number in record["Compartilhamento"] for number in ("19/2024", "32/2026", "Sentry"))
    assert "segredo" not in said
    assert "ana" not in said.split()


def test_without_a_key_nothing_is_shared() -> None:
    without = {name: value for name, value in GIVEN.items() if name != "OPENAI_API_KEY"}
    for given in (without, GIVEN | {"ADDRESS_NORMALIZATION_ENABLED": "false"}):
        assert processing_record(settings_of(given))["Compartilhamento"].startswith("Nenhum texto sai")


def test_the_command_prints_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in GIVEN.items():
        monkeypatch.setenv(name, value)
    printed = CliRunner().invoke(app, ["doctor", "--lgpd", "--registro"])

    assert printed.exit_code == 0
    assert printed.stdout.startswith("Operação\n")
    assert "Base legal (arts. 7º e 11)\n  a preencher." in printed.stdout
    assert CliRunner().invoke(app, ["doctor", "--registro"]).exit_code == 2
