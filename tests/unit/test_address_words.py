"""Words and towns are data: each word once, none in the code, and a bad entry is named by file, line and fault."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

from normalizer.domain import address, gazetteer
from normalizer.domain.address import lexicon
from normalizer.domain.address.postal import Verdict
from normalizer.domain.address.standard import FIELDS
from normalizer.domain.address.words import (
    WORDS,
    WORDS_FILE,
    Town,
    load_towns,
    load_words,
    phrase_key,
    ways_of,
)
from normalizer.errors import Misconfigured

CODE = sorted(Path(address.__file__).parent.rglob("*.py"))
# The stored fields and verdicts have names that are also words; `lexicon` names roles, and no words.
NAMES = {*FIELDS, *Verdict, "texto"}
# `lexicon` names roles, the others speak to people.
SPEAKING = {"lexicon.py", "explain.py"}
PLAIN = re.compile(r"[^\W\d_]+(?: [^\W\d_]+)*")  # words and phrases; messages and patterns have signs


def literals(file):
    """Yield every string of a module that is no docstring."""
    tree = ast.parse(file.read_text("utf-8"))
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.value


@pytest.mark.parametrize("file", [file for file in CODE if file.name not in SPEAKING], ids=lambda file: file.name)
def test_no_word_of_the_file_stands_in_the_code(file):
    spelled = {spelling for word in WORDS.all for spelling in word.spellings if len(spelling) > 1}
    places = {phrase_key(name) for name in (*gazetteer.UF_NAMES.values(), *gazetteer.CAPITALS.values())}
    for text in filter(PLAIN.fullmatch, literals(file)):
        said = {phrase_key(text), *map(phrase_key, text.split())} - NAMES
        assert not said & (spelled | places), text
        assert text not in gazetteer.UF_NAMES


def test_lexicon_names_only_roles():
    lexicon_file = next(file for file in CODE if file.name == "lexicon.py")
    assert set(literals(lexicon_file)) <= {
        *WORDS.roles,
        *(role.partition(".")[0] for role in WORDS.roles),
        *(role.partition(".")[2] for role in WORDS.roles),
    }


def test_every_role_is_described_and_used():
    used = {role for word in WORDS.all for role in word.roles}
    asked = {*literals(next(file for file in CODE if file.name == "lexicon.py"))}
    assert used == {*WORDS.roles}
    assert {role for role in WORDS.roles if role not in asked and role.partition(".")[0] not in asked} == set()


def test_a_word_and_its_spellings_are_found_by_role():
    assert lexicon.STREET_TYPES["av"] == lexicon.STREET_TYPES["avenida"] == "Avenida"
    assert [word.long for word in WORDS.having("pca")] == ["Praça"]


ROLES = '[roles]\nstreet = "tipo"\nweak = "fraco"\n\n[words]\n'


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('Rua = { short = "r", roles = "stret" }', "papel desconhecido «stret»"),
        ('Rua = { short = "r", roles = "street, weak(ru)" }', "«ru», no papel «weak», não é uma forma da palavra"),
        ('Rua = { short = "R", roles = "street" }', "«R» deve estar em minúsculas e sem acento"),
        ('Rua = { short = "r rua", roles = "street" }', "uma forma de «Rua» está repetida"),
        ('Rua = { roles = "street, street" }', "o papel «street» está repetido"),
        ('Avenida = { roles = "weak" }', "«Avenida» já está na linha 6"),
        ('Rua = { papeis = "street" }', "não entendi"),
        ('Rua = { roles = "" }', "não entendi"),
    ],
)
def test_a_bad_word_is_named(tmp_path, line, fault):
    file = tmp_path / "words.toml"
    file.write_text(ROLES + 'Avenida = { roles = "street" }\n' + line + "\n", "utf-8")
    with pytest.raises(Misconfigured) as caught:
        load_words(file)
    assert str(caught.value).startswith("words.toml, linha 7: ")
    assert fault in str(caught.value)
    assert "docs/regras-de-endereco.md" in str(caught.value)


def test_the_file_is_toml_too():
    tables = tomllib.loads(WORDS_FILE.read_text("utf-8"))
    assert {*tables["words"]} == {word.long for word in WORDS.all}
    labels = {f"label.{field}": meaning for field, meaning in tables["roles"].pop("label").items()}
    assert tables["roles"] | labels == WORDS.roles


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('[XX]\ncodes = "a"', "«XX» não é uma UF"),
        ('["SP/Baurú"]\ncodes = "a"', "«Baurú» não é um município de SP"),
        ("[GO]\nlettered = true", "«lettered» é desconhecido"),
        ('[GO]\ncodes = ["a"]', "«codes» deve ser um texto: «palavra palavra»"),
        ('[GO]\nlettered_streets = "sim"', "«lettered_streets» deve ser «true» ou «false»"),
    ],
)
def test_a_bad_town_is_named(tmp_path, text, fault):
    file = tmp_path / "towns.toml"
    file.write_text("# uma linha antes\n" + text, "utf-8")
    with pytest.raises(Misconfigured) as caught:
        load_towns(file)
    assert str(caught.value).startswith("towns.toml, linha 2: ")
    assert fault in str(caught.value)


def test_broken_toml_is_named(tmp_path):
    file = tmp_path / "towns.toml"
    file.write_text("[GO]\nlettered_streets = \n", "utf-8")
    with pytest.raises(Misconfigured, match=r"towns\.toml: .*line 2"):
        load_towns(file)


def test_the_towns_exist_and_inherit_from_their_state():
    load_towns()
    assert ways_of("TO", "Palmas").lettered_streets
    assert ways_of("PR", "Palmas") == Town()
