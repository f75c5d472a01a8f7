"""The live page in a real browser: a real upload, a real worker, and what a person does with the page.

Skipped where Chromium and its driver are not installed (Debian: `apt-get install chromium chromium-driver`).
`SCREENSHOTS=docs/images` keeps what the browser saw.
"""

from __future__ import annotations

import os
import shutil
import socket
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from xlsxwriter import Workbook

from normalizer.simulation import embedded
from tests.acceptance.harness import make_rows

pytest.importorskip("selenium", reason="needs selenium: pip install '.[dev]'")
from axe_core_python.selenium import Axe
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM, DRIVER = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,  # a browser beside services on two cores: `make test-slow`
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs a browser: apt-get install chromium chromium-driver"),
    pytest.mark.timeout(240),
]

GONE = (StaleElementReferenceException, IndexError)
#: What the page says stands there for some seconds; here it is kept.
REMEMBER = """
  var said = [];
  addEventListener("DOMContentLoaded", () => {
    const toast = document.querySelector("#aviso");
    if (toast) new MutationObserver(() => said.push(toast.textContent)).observe(toast, { childList: true });
  });
"""
KEY = "4b1f0c8e6a2d9375f0e1c2b3a4958677"
TITLES = (
    *("Id do agendamento", "Nome do Paciente", "Data/Hora Início Agendamento"),
    *("Endereço Coleta", "Documento(s) do Paciente"),
)
HARD = {row.text: row.address for row in make_rows(4, hard=1.0)}  # what only a model reads
EASY = (
    "Av. Brasil, {n}, Centro, Cascavel, PR",
    "R. Sete de Setembro, {n}, apto 12, Centro, Blumenau - SC, 89010-200",
    "rua marechal deodoro,{n},centro,curitiba,PR,80010-010",
)
CPFS = ("111.444.777-35", "529.982.247-25", "11144477735", "52998224725")

LATER = f"Id do agendamento;Endereço Coleta\n9999;{EASY[0].format(n=77)}\n".encode()


def mean(browser: Browser, title: str, field: str) -> None:
    """Say what a column carries, and wait until the sheet was read so."""
    browser.one(f'form.meanings [name="{title}"] [value={field}]').click()
    chosen = f'form.meanings [name="{title}"] [value={field}][selected]'
    browser.until(lambda: browser.all(chosen) and not browser.all("#previa[aria-busy]"), f"{title} is not read so")


def write_sheet(path: Path) -> Path:
    """Thirty-seven rows as a clinic types them: most plain, some repeated, some for the model, some for a person."""
    rows = [
        (
            f"{3100 + at}",
            ("Ana Exemplo", "Bruno Modelo", "Carla Simulada")[at % 3],
            f"{1 + at % 28:02}/10/2026 08:{at % 60:02}:00",
            EASY[at % 3].format(n=100 + at % 12),
            f"CPF: {CPFS[at % 4]}, RG: 12.345.67{at % 10}-{(at + 3) % 10}",
        )
        for at in range(29)
    ]
    rows += [
        (f"{3200 + at}", "Dora Exemplo", "05/10/2026 09:00:00", text, "CPF: 111.444.777-35")
        for at, text in enumerate(HARD)
    ]
    rows += [
        ("3300", "Érica Modelo", "06/10/2026 10:00:00", EASY[0].format(n=7), "CPF: 111.444.777-36"),
        ("3301", "Fábio Modelo", "06/10/2026 10:10:00", "a combinar", "CPF: 529.982.247-25"),
        ("3302", "Gil Modelo", "06/10/2026 10:20:00", "", "RG: 12.345.678-9"),
        ("3303", "Hugo Modelo", "amanhã", EASY[2].format(n=8), "CPF: 529.982.247-25"),
    ]
    with Workbook(str(path)) as book:
        page = book.add_worksheet("Agenda")
        for number, row in enumerate([TITLES, *rows]):
            page.write_row(number, 0, row)
    return path


@pytest.fixture
def environment(
    redis_url: str, mongo_url: str, database: str, start_provider: Callable[..., embedded.ProviderService]
) -> dict[str, str]:
    provider = start_provider(HARD, latency_ms=300)
    return {
        "REDIS_URL": redis_url,
        "MONGODB_URL": mongo_url,
        "DATABASE_NAME": database,
        "ENVIRONMENT": "production",
        "API_KEYS": KEY,
        "OPENAI_API_KEY": "simulated",
        "OPENAI_BASE_URL": provider.url,
        "OPENAI_MODEL": "simulated-model",
        "DAILY_BUDGET_USD": "2",
    }


@pytest.fixture
def worker(environment: dict[str, str], tmp_path: Path) -> Iterator[embedded.Child]:
    with embedded.spawn_worker(environment, log=tmp_path / "worker.log") as child:
        yield child


@pytest.fixture
def url(environment: dict[str, str], tmp_path: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["-c", "from normalizer.cli import main; main()", "serve", "--port", str(port)]
    with embedded.spawn_python("api", command, environment, log=tmp_path / "serve.log") as child:
        while child.running and not _listens(port):
            pass
        assert child.running, child.tail()
        yield f"http://127.0.0.1:{port}"
        log = child.output()
    assert "11144477735" not in log
    assert "Exemplo" not in log


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Browser:
    """Chromium without a window, and the words a test speaks with it."""

    def __init__(self, directory: Path) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM or ""
        for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--lang=pt-BR"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(service=webdriver.ChromeService(DRIVER), options=options)
        self.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": REMEMBER})
        self._shots = Path(os.environ["SCREENSHOTS"]) if "SCREENSHOTS" in os.environ else directory
        self._shots.mkdir(parents=True, exist_ok=True)
        self.size(1280, 1180)

    def size(self, width: int, height: int) -> None:
        """Of the page, as a phone when narrow."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def dark(self, on: bool) -> None:
        """What the system prefers."""
        feature = {"name": "prefers-color-scheme", "value": "dark" if on else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> Any:
        return self.until(lambda: self.all(selector), f"no {selector}")[0]

    def until(self, state: Callable[[], Any], what: str, timeout_s: float = 40) -> Any:
        """Wait for the page to come to a state; the live page replaces elements, so a stale one is asked for again."""
        wait = WebDriverWait(self.driver, timeout_s, poll_frequency=0.1, ignored_exceptions=GONE)
        return wait.until(lambda _: state(), what)

    def press(self, selector: str, key: str = Keys.ENTER) -> None:
        """A key on an element that may be replaced meanwhile."""
        self.until(lambda: [self.all(selector)[0].send_keys(key)], f"cannot press {selector}")

    def text(self, selector: str) -> str:
        return self.until(lambda: self.all(selector)[0].text or " ", selector).strip()

    def said(self, words: str) -> None:
        """The page has said so since it was loaded: in the header, where it covers nothing."""
        self.until(lambda: any(words in one for one in self.driver.execute_script("return said")), f"not said: {words}")
        assert self.all(".top #aviso")
        style = "return getComputedStyle(document.querySelector('#aviso')).position"
        assert self.driver.execute_script(style) == "static"

    def shot(self, name: str) -> None:
        self.driver.save_screenshot(str(self._shots / f"{name}.png"))

    def accessible(self) -> None:
        """No violation that axe knows of, and nothing wider than the screen."""
        found = Axe().run(self.driver)["violations"]
        assert [(one["id"], one["nodes"][0]["html"]) for one in found] == []
        assert self.driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    opened = Browser(tmp_path)
    yield opened
    complaints = [entry for entry in opened.driver.get_log("browser") if entry["level"] == "SEVERE"]
    opened.driver.quit()
    # A refused correction is a 422, a conflict a 409 by design; anything else (a blocked script, a lost file) is not.
    by_design = ("status of 422", "status of 409", "status of 401")
    assert [entry for entry in complaints if not any(status in entry["message"] for status in by_design)] == []


def enter(browser: Browser, url: str) -> None:
    browser.driver.get(url)
    browser.one("#chave").send_keys(KEY, Keys.ENTER)
    browser.one("#conteudo")


def upload(browser: Browser, sheet: Path) -> None:
    browser.one("#arquivo").send_keys(str(sheet))
    browser.until(lambda: browser.all("[data-import]"), "no preview")


@pytest.mark.usefixtures("worker")
def test_a_sheet_is_imported_followed_corrected_and_undone(url: str, browser: Browser, tmp_path: Path) -> None:
    sheet = write_sheet(tmp_path / "agenda-outubro.xlsx")
    browser.driver.get(url)
    browser.accessible()
    enter(browser, url)
    assert "Nenhuma importação ainda" in browser.text("#importacoes")
    browser.until(lambda: "1 worker" in browser.text("#estado"), "no worker")
    browser.accessible()
    browser.shot("vazio")

    upload(browser, sheet)
    assert "Nada foi gravado ainda" in browser.text("#previa")
    assert "amanhã" not in browser.text("#previa")
    assert "US$" in browser.text("#previa .cost")
    browser.accessible()
    browser.shot("previa")
    browser.press("[data-import]")

    browser.until(lambda: "37 novas" in browser.text("#importacoes"), "not imported")
    browser.until(
        lambda: "fila vazia" in browser.text("#cartoes") and "na fila" not in browser.text("#importacoes"), "late"
    )
    bar = browser.one("#importacoes svg").get_attribute("aria-label")
    assert "IA" in bar
    assert "revisar" in bar
    browser.until(lambda: len(browser.all("#tabela [data-correct]")) == 15, "no table")
    browser.until(lambda: "CPF com dígito inválido" in browser.text("#falhas"), "no causes")
    assert "529.982" not in browser.driver.page_source
    browser.accessible()
    browser.shot("painel")
    browser.dark(True)
    browser.accessible()
    browser.shot("painel-escuro")
    browser.dark(False)

    correct(browser)
    undo(browser)


def correct(browser: Browser) -> None:
    """By keyboard alone: from the cause to the row, a wrong CPF, then the right one."""
    browser.press('[data-cause="CPF com dígito inválido"]')
    browser.until(lambda: len(browser.all("#tabela [data-correct]")) == 1, "not filtered")
    browser.press("#tabela [data-correct]")
    cpf = browser.one("form.correct [name=cpf]")
    browser.one("form.correct [name=numero]").send_keys("sem")
    cpf.clear()
    cpf.send_keys("111.444.777-37", Keys.ENTER)
    browser.until(lambda: "dígitos verificadores" in browser.text("form.correct [data-error=cpf]"), "no complaint")
    # Each error stands beside its field, all of them at once.
    assert "só algarismos" in browser.text("form.correct [data-error=numero]")
    assert browser.driver.switch_to.active_element.get_attribute("name") == "numero"
    browser.accessible()
    browser.driver.execute_script("arguments[0].value = arguments[0].defaultValue", browser.one("[name=numero]"))
    browser.driver.execute_script("document.querySelector('#t-tabela').scrollIntoView()")
    browser.shot("correcao")
    cpf.clear()
    cpf.send_keys("111.444.777-35", Keys.ENTER)
    browser.until(lambda: not browser.all("form.correct"), "not saved")
    row = browser.text("#tabela tr.fresh")
    assert "concluído" in row
    assert "pessoa" in row
    assert "111.444" not in row
    browser.press("[data-clear]")
    browser.until(lambda: len(browser.all("#tabela [data-correct]")) == 15, "still filtered")


def undo(browser: Browser) -> None:
    browser.press("[data-undo]")
    browser.until(lambda: browser.one("#confirma").is_displayed(), "no question")
    browser.press("#confirma [value=sim]")
    browser.said("37 removidos")
    browser.until(lambda: "desfeita" in browser.text("#importacoes"), "not shown")
    browser.until(lambda: "Ainda não há agendamentos" in browser.text("#tabela"), "still there")


@pytest.mark.usefixtures("worker")
def test_it_fits_a_phone_and_a_paused_queue_says_so(url: str, browser: Browser, tmp_path: Path) -> None:
    browser.size(390, 1500)
    enter(browser, url)
    browser.until(lambda: "Ativo" in browser.text("#estado"), "no worker")
    browser.press("#ordem")
    browser.until(lambda: "Pausado" in browser.text("#estado"), "not paused")
    assert "nada se perde" in browser.text("#problema")

    upload(browser, write_sheet(tmp_path / "agenda.xlsx"))
    browser.press("[data-import]")
    browser.until(lambda: "37 novas" in browser.text("#importacoes"), "not imported")
    browser.accessible()

    browser.press("#ordem")
    browser.until(lambda: "fila vazia" in browser.text("#cartoes"), "not resumed")
    browser.until(lambda: browser.all("#tabela .o-regras"), "no result")
    browser.accessible()
    browser.shot("celular")


@pytest.mark.usefixtures("worker")
def test_columns_of_unknown_titles_are_explained_once(url: str, browser: Browser, tmp_path: Path) -> None:
    sheet = tmp_path / "clientes.csv"
    sheet.write_text(f"Cliente;Onde mora;Papéis\nAna Exemplo;{EASY[0].format(n=9)};CPF: {CPFS[0]}\n", encoding="utf-8")
    enter(browser, url)

    browser.one("#arquivo").send_keys(str(sheet))
    browser.until(lambda: len(browser.all("form.meanings select")) == 3, "no titles to explain")
    assert "Ana" not in browser.text("#previa")
    browser.accessible()
    # No button beside the choice: it is taken as it is made.
    mean(browser, "Cliente", "nome_paciente")
    mean(browser, "Onde mora", "endereco_completo")
    browser.until(lambda: browser.all("[data-import]"), "no preview")
    assert "2 como foi indicado" in browser.text("#parte-colunas summary")
    browser.accessible()
    browser.shot("colunas")
    assert not browser.one("[data-import]").is_enabled()  # no column carries a document: that is asked first
    browser.one('[data-none="documento"]').click()
    browser.press("[data-import]")
    browser.until(lambda: "1 nova" in browser.text("#importacoes"), "not imported")
    browser.until(lambda: browser.all("#tabela .o-regras"), "no result")

    upload(browser, sheet)
    assert "2 como foi indicado" in browser.text("#parte-colunas summary")


@pytest.mark.usefixtures("worker")
def test_the_table_catches_up_once_nobody_is_in_it(url: str, browser: Browser, tmp_path: Path) -> None:
    """What changes while somebody's focus is in the table, and nothing moves any more, is shown when they leave it."""
    enter(browser, url)
    upload(browser, write_sheet(tmp_path / "agenda.xlsx"))
    browser.press("[data-import]")
    browser.until(lambda: "fila vazia" in browser.text("#cartoes") and browser.all("#tabela [data-correct]"), "late")
    browser.driver.execute_script("document.querySelector('#tabela [data-correct]').focus()")
    request = urllib.request.Request(f"{url}/api/imports?nome=outra.csv", LATER, {"X-API-Key": KEY})  # noqa: S310
    urllib.request.urlopen(request, timeout=30).close()  # noqa: S310
    browser.until(lambda: "38 ao todo" in browser.text("#cartoes") and "fila vazia" in browser.text("#cartoes"), "late")
    assert "9999" not in browser.text("#tabela")

    browser.driver.execute_script("document.activeElement.blur()")

    browser.until(lambda: "9999" in browser.text("#tabela"), "still as it was")


@pytest.mark.usefixtures("worker")
def test_all_of_a_filter_are_corrected_as_counted_and_undone(url: str, browser: Browser, tmp_path: Path) -> None:
    enter(browser, url)
    upload(browser, write_sheet(tmp_path / "agenda.xlsx"))
    browser.press("[data-import]")
    browser.until(lambda: "fila vazia" in browser.text("#cartoes") and browser.all("#tabela [data-correct]"), "late")
    assert not browser.all("#todos")  # of all there are, none is asked for
    browser.one("#filtros [name=busca]").send_keys("310")
    browser.until(lambda: "todos os 10" in browser.text("#tabela"), "not filtered")

    assert "busca=310" in browser.driver.current_url
    browser.driver.refresh()
    browser.until(lambda: "todos os 10" in browser.text("#tabela"), "the filter did not survive")
    browser.press("#todos summary")
    browser.until(lambda: "id com “310”" in browser.text("#todos form"), "the scope is not told")
    browser.accessible()
    browser.one("#todos-cep").send_keys("80", Keys.ENTER)
    browser.until(lambda: "8 algarismos" in browser.text("#todos-cep-erro"), "no complaint")
    browser.shot("corrigir-todos")
    browser.one("#todos-cep").clear()
    browser.one("#todos-bairro").send_keys("Centro Novo", Keys.ENTER)
    browser.until(lambda: "Corrigir 10 agendamentos (id com “310”)?" in browser.text("#confirma"), "not counted")
    browser.press("#confirma [value=sim]")
    browser.said("Corrigindo 10")
    browser.until(lambda: browser.text("#tabela").count("Centro Novo") == 10, "not corrected")

    browser.until(lambda: "correção em massa" in browser.text("#importacoes"), "no history")
    browser.press("[data-name='correção em massa'][data-undo]")
    browser.until(lambda: browser.one("#confirma").is_displayed(), "no question")
    browser.press("#confirma [value=sim]")
    browser.said("10 restaurados")
    browser.until(lambda: "Centro Novo" not in browser.text("#tabela"), "not undone")


@pytest.mark.usefixtures("worker")
def test_a_file_that_is_no_sheet_is_explained(url: str, browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "foto.xlsx"
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    enter(browser, url)

    browser.one("#arquivo").send_keys(str(file))

    browser.until(lambda: "foto.xlsx" in browser.text("#previa [role=alert]"), "no explanation")
    assert not browser.all("[data-import]")


def test_policies_are_listed_changed_and_removed(url: str, browser: Browser) -> None:
    choice = b'{"unidade": "Unidade Norte", "quando": "coleta"}'
    headers = {"X-API-Key": KEY, "Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/api/politicas/endereco", choice, headers, method="PUT")  # noqa: S310
    urllib.request.urlopen(request, timeout=30).close()  # noqa: S310
    enter(browser, url)
    browser.until(lambda: "unidade norte" in browser.text("#politicas"), "not listed")
    browser.accessible()

    browser.one("#politica-1 [value=sempre]").click()
    browser.said("Vale daqui em diante.")
    browser.driver.refresh()
    browser.one("#politica-1 [value=sempre][selected]")
    browser.press("[data-unpolicy]")
    browser.said("Sem regra para unidade norte.")
    browser.until(lambda: not browser.all("[data-unpolicy]"), "still listed")
