"""Counting never touches the network, whatever is missing."""

import os
import socket

import pytest

from normalizer.llm import tokens

TEXT = "Rua Maurício da Costa Faria, 52"


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    def refuse(*_args, **_kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR", raising=False)
    tokens._encoding.cache_clear()
    forget_loaded_encodings()
    yield
    tokens._encoding.cache_clear()
    forget_loaded_encodings()


def forget_loaded_encodings():
    import tiktoken.registry

    tiktoken.registry.ENCODINGS.clear()


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
def test_counts_are_those_of_the_same_ranks_in_pure_python(model):
    expected = len(tokens._pure(tokens.encoding_name(model)).encode_ordinary(TEXT))

    assert tokens.counter(model)(TEXT) == expected > 0


def test_special_tokens_in_a_text_are_just_text():
    assert tokens.counter("gpt-6-luna")("<|endoftext|>") > 1


def test_a_damaged_file_is_replaced_before_tiktoken_sees_it(tmp_path):
    filename, _ = tokens._RANKS["o200k_base"]
    damaged = tmp_path / "normalizer" / "tiktoken" / filename
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"half a file")

    assert tokens.counter("gpt-6-luna")(TEXT) > 0
    assert damaged.stat().st_size > 1_000_000


def test_without_a_writable_folder_counting_goes_on_in_pure_python(monkeypatch, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setattr(tokens, "_folders", lambda: [file / "below"])

    assert tokens.counter("gpt-6-luna")(TEXT) > 0
    assert "TIKTOKEN_CACHE_DIR" not in os.environ


def test_ranks_of_another_version_are_not_offered_to_tiktoken(monkeypatch):
    monkeypatch.setattr(tokens, "_shipped", lambda _name: b"others")

    assert tokens.counter("gpt-6-luna")(TEXT) > 0
    assert "TIKTOKEN_CACHE_DIR" not in os.environ
