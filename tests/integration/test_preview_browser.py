"""The preview in a real browser: columns, rows and outcome on one page, each choice taken as it is made."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest

from tests.integration.test_api_browser import (
    CHROMIUM,
    DRIVER,
    KEY,
    Browser,
    browser,
    enter,
    environment,
    mean,
    upload,
    url,
)

__all__ = ["browser", "environment", "url"]  # the fixtures

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs a browser: apt-get install chromium chromium-driver"),
    pytest.mark.timeout(240),
]

ROWS = "".join(
    f"{at};Clínica Exemplo;Ana Exemplo {at};{'31/02/2026' if at < 4 else 'amanhã' if at == 4 else '10/10/2026'};"
    f"Av. Brasil, {at}, Centro, Cascavel, PR;{111_444_777_35 if at % 2 else 529_982_247_25}\n"
    for at in range(1, 9)
)
SHEET = f"Id do agendamento;Marca;Nome do Paciente;Data Agendamento;Endereço Coleta;Inscrição\n{ROWS}"


def write(tmp_path: Path, text: str) -> Path:
    sheet = tmp_path / "agenda.csv"
    sheet.write_text(text, encoding="utf-8")
    return sheet


def test_columns_rows_and_outcome_are_settled_before_anything_is_written(
    url: str, browser: Browser, tmp_path: Path
) -> None:
    enter(browser, url)
    upload(browser, write(tmp_path, SHEET))

    # Columns: without a document, that is asked; what the values say is offered, and taken by one press.
    assert "Nenhuma coluna traz documento" in browser.text("#parte-colunas")
    assert not browser.one("[data-import]").is_enabled()
    assert "“10/10/2026”" in browser.text(".meanings")
    assert "Ana" not in browser.text("#previa")
    assert "11144477735" not in browser.driver.page_source
    browser.accessible()
    browser.press('[data-title="Inscrição"][data-meaning=cpf]')
    browser.until(lambda: browser.one("[data-import]").is_enabled(), "still asked")

    # Rows: equal problems together, mended together; of the other one, only it.
    assert "3 × 31/02/2026 não existe" in browser.text("#parte-linhas")
    assert "amanhã" not in browser.text("#previa")
    browser.accessible()
    browser.one("form.edit [name=valor]").send_keys("28/02/2026")
    browser.press("form.edit button")
    browser.until(lambda: "31/02/2026" not in browser.text("#parte-linhas"), "not mended")
    assert "1 problema" in browser.text("#parte-linhas summary")

    # Outcome: in words, and the button says just that.
    assert "8 agendamentos novos entram na fila." in browser.text(".outcome")
    assert browser.text("[data-import]") == "Importar 8 novos"
    browser.shot("previa")
    browser.press("[data-import]")
    browser.until(lambda: "8 novas" in browser.text("#importacoes"), "not imported")
    browser.until(lambda: len(browser.all("#tabela [data-correct]")) == 8, "no table")
    assert browser.text("#tabela").count("28/02/2026") == 3
    browser.until(lambda: "Data que não se leu" in browser.text("#falhas"), "the unread date is not told")
    browser.press("#conferir-data")
    browser.until(lambda: len(browser.all("#tabela [data-correct]")) == 1, "not found")


def test_a_column_that_is_not_there_is_answered_and_a_policy_is_chosen(
    url: str, browser: Browser, tmp_path: Path
) -> None:
    enter(browser, url)
    upload(browser, write(tmp_path, "Marca;Nome;Carro;CPF\nClínica Exemplo;Ana;Carro 1;11144477735\n"))

    assert not browser.one("[data-import]").is_enabled()
    browser.one("[data-none=endereco]").click()
    browser.until(lambda: browser.one("[data-import]").is_enabled(), "still asked")
    mean(browser, "Nome", "ignorar")
    assert not browser.one("[data-import]").is_enabled()  # another reading, asked again
    browser.one("[data-none=endereco]").click()
    assert "1 de 1 linha de Clínica Exemplo sem endereço" in browser.text("#parte-linhas")
    browser.one("[data-policy] [value=coleta]").click()
    browser.accessible()
    browser.press("[data-import]")
    browser.until(lambda: "1 nova" in browser.text("#importacoes"), "not imported")

    upload(browser, write(tmp_path, "Marca;Nome;CPF\nClínica Exemplo;Ana;52998224725\n"))
    assert browser.one("[data-policy] [value=coleta]").is_selected()


def test_the_list_keeps_its_filter_and_a_conflict_keeps_what_was_typed(
    url: str, browser: Browser, tmp_path: Path
) -> None:
    enter(browser, url)
    browser.driver.get(f"{url}/?status=pendente")
    assert browser.one("[name=status]").get_attribute("value") == "pendente"
    upload(browser, write(tmp_path, SHEET.replace("Inscrição", "CPF")))
    browser.press("[data-import]")
    browser.until(lambda: len(browser.all("#tabela [data-correct]")) == 8, "no table")
    assert "em dia" not in browser.text("#cartoes")  # nobody works on it
    assert browser.one('#cartoes a[href="/revisao"]').is_displayed()

    browser.one("[name=paciente]").send_keys("exemplo 3")
    browser.until(lambda: len(browser.all("#tabela [data-correct]")) == 1, "not found by name")
    assert "exemplo" not in browser.driver.current_url
    assert "status=pendente" in browser.driver.current_url

    browser.press("#tabela [data-correct]")
    form = browser.one("form.correct")
    for name, value in (("rua", "Avenida Brasil"), ("numero", "3"), ("cidade", "Cascavel"), ("cep", "85801-000")):
        browser.one(f"form.correct [name={name}]").send_keys(value)
    browser.one("form.correct [name=estado] [value=PR]").click()
    other = {"documento": {"cpf": "111.444.777-35"}}
    path = f"{url}/api/appointments/{form.get_attribute('data-id')}"
    request = urllib.request.Request(path, json.dumps(other).encode(), method="PATCH")  # noqa: S310
    request.add_header("X-API-Key", KEY)
    request.add_header("Content-Type", "application/json")
    urllib.request.urlopen(request, timeout=30).close()  # noqa: S310
    browser.press("form.correct .main")
    browser.until(lambda: browser.one("[data-again]").is_displayed(), "no way out of the conflict")
    browser.press("[data-again]")
    browser.until(lambda: "o que você digitou" in browser.text("form.correct > .wrong"), "not opened again")
    assert browser.one("form.correct [name=rua]").get_attribute("value") == "Avenida Brasil"
    browser.press("form.correct .main")
    browser.until(lambda: not browser.all("form.correct"), "not saved")
