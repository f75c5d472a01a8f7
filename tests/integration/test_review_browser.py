"""The review desk in a real browser: by keyboard alone, on a phone, and with two people at once."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("selenium", reason="needs selenium: pip install '.[dev]'")
from selenium.webdriver.common.keys import Keys

from normalizer.domain.appointment import Kind
from normalizer.runtime import open_backend
from normalizer.settings import settings_of
from normalizer.store import ImportRow, Result
from normalizer.worker.pipeline import Finished, Pipeline
from tests.integration.test_api_browser import Browser, browser, enter, environment, pytestmark, url

__all__ = ["browser", "environment", "pytestmark", "url"]

CAMPOS = "Tv. Padre Eutíquio {n}, B. Campos, Belém PA"
NO_STATE = "Rua Pedro Álvares Cabral, {n}, Centro, Cascavel"
NO_CITY = "Rua XV de Novembro, {n}, Centro"
JUNK = "vai confirmar por whatsapp {n}"
GOOD = "Av. Brasil, {n}, Centro, Curitiba, PR"


def seed(environment: dict[str, str], texts: list[str]) -> None:
    """Import the addresses and let a worker without a model end them."""

    async def run() -> None:
        async with open_backend(settings_of(environment)) as backend:
            import_id = await backend.store.imports.begin(file="agenda.csv")
            about = {"nome_paciente": "Ana Exemplo", "nome_unidade": "Unidade Centro"}
            rows = [ImportRow(f"k{at}", {"endereco_completo": text, **about}) for at, text in enumerate(texts)]
            await backend.store.upsert_rows(rows, import_id)
            pipeline = Pipeline(cache=backend.cache, coalescer=None, unasked=None)
            async for chunk in backend.store.pending():
                loaded = list((await backend.store.load([one.id for one in chunk])).values())
                async for progress in pipeline.run(loaded, deadline=1e9):
                    ended = [each for each in progress if isinstance(each, Finished)]
                    results = [Result(each.appointment, each.outcomes, fence=1, tries=1) for each in ended]
                    await backend.store.save(results)

    asyncio.run(run())


def sheet() -> list[str]:
    """200 rows as weeks of a clinic's agenda are: the same patients again, some texts once."""
    often = [form.format(n=10 + at) for at in range(8) for form in (CAMPOS, NO_STATE, NO_CITY, JUNK)]
    return [*(text for text in often for _ in range(5)), *(CAMPOS.format(n=900 + at) for at in range(30)), *often[:10]]


class Hands:
    """Keys on the page, counted."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.by_question: list[int] = []

    def question(self) -> Any:
        return self.browser.one(".question.now")

    def has_work(self) -> bool:
        """Whether there is a question; the last one's answer may still be under way."""
        self.browser.until(
            lambda: self.browser.all(".question.now") or self.browser.one("#nada").is_displayed(), "neither"
        )
        return bool(self.browser.all(".question.now"))

    def press(self, *keys: str) -> None:
        self.browser.driver.switch_to.active_element.send_keys(*keys)

    def settle(self) -> None:
        """Decide on the question in hand, with the keys that it takes, and wait for the next."""
        question = self.question()
        name = question.get_attribute("id")
        keys = ["1", Keys.ENTER] if question.find_elements("css selector", ".candidate") else ["n"]
        self.press(*keys)
        self.by_question.append(len(keys))
        self.browser.until(lambda: not self.browser.all(f"#{name}"), f"{name} is still there")


@pytest.fixture
def hands(browser: Browser) -> Hands:
    return Hands(browser)


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Browser]:
    """Somebody else's browser."""
    opened = Browser(tmp_path / "other")
    yield opened
    opened.driver.quit()


def sit_down(browser: Browser, url: str) -> None:
    """Come to the desk; a question is in hand."""
    enter(browser, url)
    browser.driver.get(f"{url}/revisao")
    browser.one(".question.now")


def test_two_hundred_rows_are_settled_by_keyboard(
    url: str, browser: Browser, hands: Hands, environment: dict[str, str], mongo: Any
) -> None:
    texts = sheet()
    seed(environment, [*texts, *(GOOD.format(n=at) for at in range(20))])
    assert len(texts) == 200
    sit_down(browser, url)
    assert "Cascavel sem UF" in browser.text(".question.now h2")
    browser.accessible()
    assert "Eut" not in browser.driver.current_url
    browser.shot("revisao")

    hands.press("2")
    hands.press(Keys.ENTER)
    browser.until(lambda: not browser.all(".lack"), "the lack is still there")
    decisions = 1
    while hands.has_work():
        hands.settle()
        decisions += 1

    def still_open() -> int:
        return int(mongo["appointments"].count_documents({"normalizacao.status": "revisar"}))

    browser.until(lambda: not still_open(), "not all written", timeout_s=150)
    assert mongo["appointments"].count_documents({"endereco_normalizado.rua": "Rua Pedro Álvares Cabral"}) == 43
    assert statistics.median(hands.by_question) <= 3
    assert decisions / len(texts) <= 0.6
    assert browser.one("#nada").is_displayed()
    assert browser.text("#abertos").startswith("0 ")

    hands.press("u")
    browser.until(lambda: browser.all(".question.now"), "not undone")
    assert still_open() >= 1


def test_one_is_edited_skipped_and_decided_for_itself(
    url: str, browser: Browser, hands: Hands, environment: dict[str, str], mongo: Any
) -> None:
    seed(environment, [CAMPOS.format(n=1), CAMPOS.format(n=1), JUNK.format(n=2)])
    sit_down(browser, url)
    first = hands.question().get_attribute("id")

    hands.press("p")
    browser.until(lambda: hands.question().get_attribute("id") != first, "not put off")
    browser.said("Adiada por um dia")
    hands.press("j")
    browser.until(lambda: hands.question().get_attribute("id") == first, "no step")
    hands.press("s")
    hands.press("e")
    form = browser.one(f"#{first} form")
    assert form.find_element("name", "rua").get_attribute("value") == "Travessa Padre Eutíquio"
    browser.accessible()
    district = form.find_element("name", "bairro")
    district.send_keys("Batista Campos")
    city = form.find_element("name", "cidade")
    city.clear()
    city.send_keys("Belem do Nada", Keys.ENTER)
    browser.until(lambda: "município" in browser.text(f"#{first} .wrong"), "no complaint")
    assert browser.driver.switch_to.active_element.get_attribute("name") == "cidade"
    city.clear()
    city.send_keys("Belém", Keys.ENTER)

    browser.said("outro igual espera")
    settled = mongo["appointments"].find({"endereco_normalizado.bairro": "Batista Campos"})
    assert len(list(settled)) == 1
    hands.press("/")
    assert browser.driver.switch_to.active_element.get_attribute("name") == "causa"


def test_of_two_browsers_the_second_is_told_and_loses_nothing(
    url: str, browser: Browser, hands: Hands, environment: dict[str, str], mongo: Any, other: Browser
) -> None:
    seed(environment, [CAMPOS.format(n=1)] * 3)
    for each in (browser, other):
        sit_down(each, url)
    hands.press("e")
    browser.one("form.correct [name=bairro]").send_keys("Batista Campos")
    Hands(other).press("1")
    Hands(other).press("s")
    Hands(other).press(Keys.ENTER)
    other.said("só neste")

    browser.one("form.correct [name=bairro]").send_keys(Keys.ENTER)
    browser.until(lambda: "Outra pessoa decidiu" in browser.text(".question .wrong"), "not told")
    assert browser.one("form.correct [name=bairro]").get_attribute("value") == "Batista Campos"
    browser.one("form.correct [name=bairro]").send_keys(Keys.ENTER)
    browser.until(lambda: not browser.all(".question"), "not decided")
    refused = [entry["message"] for entry in browser.driver.get_log("browser") if entry["level"] == "SEVERE"]
    assert ["409" in message for message in refused] == [True]

    found = [each["endereco_normalizado"]["bairro"] for each in mongo["appointments"].find()]
    assert sorted(found) == ["B. Campos", "Batista Campos", "Batista Campos"]
    assert {each["normalizacao"][Kind.ADDRESS]["origem"] for each in mongo["appointments"].find()} == {"manual"}


def test_what_another_browser_settled_gives_way_to_the_next(
    url: str, browser: Browser, hands: Hands, environment: dict[str, str], mongo: Any, other: Browser
) -> None:
    seed(environment, [CAMPOS.format(n=1)] * 3 + [CAMPOS.format(n=2)] * 2)
    for each in (browser, other):
        sit_down(each, url)
    first = hands.question().get_attribute("id")
    Hands(other).press("1", Keys.ENTER)
    other.said("Gravado em 3")

    hands.press("1", Keys.ENTER)

    browser.said("Outra pessoa decidiu")
    assert not browser.all(f"#{first}")
    hands.press("1", Keys.ENTER)
    browser.until(lambda: browser.one("#nada").is_displayed(), "the next is not asked")
    assert mongo["appointments"].count_documents({"normalizacao.status": "revisar"}) == 0


def test_it_fits_a_phone_and_the_dark(url: str, browser: Browser, environment: dict[str, str]) -> None:
    seed(environment, [CAMPOS.format(n=1), NO_STATE.format(n=1), NO_STATE.format(n=2)])  # each with candidates
    browser.size(390, 844)
    browser.dark(True)
    sit_down(browser, url)
    browser.accessible()
    browser.dark(False)
    browser.accessible()
    browser.one(".question.now [data-do=later]").click()
    browser.one(".question.now .candidate").click()
    browser.one(".question.now [data-do=apply]").click()
    browser.said("Gravado em")
    browser.shot("revisao-celular")
