"""docs/regras-de-endereco.md: each example of the page is done here, on a copy of the package, as the page says it."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import normalizer
from normalizer.domain.address import parse_address
from normalizer.domain.address.words import WORDS
from normalizer.domain.decision import Undecided

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "regras-de-endereco.md").read_text("utf-8")
WORD, TOWN = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
PATTERN = next(code for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if code.startswith("def "))
READ = (
    "import json, sys; from normalizer.domain.address import parse_address; "
    "print(json.dumps(parse_address(sys.argv[1]).value.as_dict()))"
)
TYPED = "Atl. das Acácias, 12, Centro, Ubá - MG"
BLOCK = "Rua Modelo, 9-55, Centro, Lins - SP"
METER = "Rua Modelo, 12, UNID. CONSUMIDORA 123456, Centro, Ubá - MG"


@pytest.fixture
def rules(tmp_path):
    """A copy of the rules to change."""
    shutil.copytree(Path(normalizer.__file__).parent, tmp_path / "normalizer")
    return tmp_path / "normalizer" / "domain" / "address"


def change(file, old, new):
    text = file.read_text("utf-8")
    assert text.count(old) == 1
    file.write_text(text.replace(old, new), "utf-8")


def read_by(rules, text):
    """Return what the changed rules read, in a process that has them alone."""
    command = [sys.executable, "-c", READ, text]
    read = subprocess.run(command, cwd=rules.parents[2], capture_output=True, check=True, text=True)
    return json.loads(read.stdout)


@pytest.mark.parametrize("text", [TYPED, BLOCK, METER])
def test_before_the_change_each_text_is_refused(text):
    assert isinstance(parse_address(text), Undecided)


def test_a_word_is_one_line(rules):
    with (rules / "words" / "words.toml").open("a", encoding="utf-8") as words:
        words.write(WORD)
    assert read_by(rules, TYPED)["rua"] == "Atalho das Acácias"


def test_a_pattern_is_one_function_in_the_tuple(rules):
    meters = f'METERS = {{"unid consumidora"}}\n\n\n{PATTERN}\n\n# In this order'
    change(rules / "passes.py", "# In this order", meters)

    change(rules / "passes.py", "    find_slot,", "    mark_meters,\n    find_slot,")
    assert read_by(rules, METER)["bairro"] == "Centro"


def test_a_town_is_one_table(rules):
    change(rules / "words" / "towns.toml", "[capitals]", f"{TOWN}\n[capitals]")
    assert read_by(rules, BLOCK)["numero"] == "9-55"


def test_the_roles_and_modules_that_the_page_names_exist():
    table = PAGE.partition("papéis que mais se usam")[2].partition("\n\n")[0]
    assert {*re.findall(r"`([\w-]+)`", table)} <= {*WORDS.roles}
    folder = ROOT / "normalizer" / "domain" / "address"
    picture = PAGE.partition("```\n")[2].partition("```")[0]
    assert {name for name in re.findall(r"\w+\.py", picture) if not (folder / name).exists()} == set()


@pytest.mark.parametrize("text", [TYPED, BLOCK, "UNID.\nCONSUMIDORA 123456"])
def test_the_page_shows_the_texts_that_are_tried_here(text):
    assert text in PAGE
