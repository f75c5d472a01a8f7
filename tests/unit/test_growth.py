"""Reading costs what a text is long: twice the text, at most 2.2 times the work, whatever is repeated in it."""

import sys

import pytest

from normalizer.domain.address import parse_address, standardize
from normalizer.domain.document import parse_document
from normalizer.llm.prompt import Record
from normalizer.llm.redaction import numbers_of
from normalizer.observability.masking import What, mask

RIGHT = {"rua": "Rua A", "numero": "1", "bairro": "Centro", "cidade": "Itu", "estado": "SP"}
READERS = {
    "an address": parse_address,
    "a document": parse_document,
    "a record for the model": Record.of,
    "the numbers to withhold": numbers_of,
    "a masked address": lambda text: mask(text, What.ADDRESS),
    "a masked document": lambda text: mask(text, What.DOCUMENT),
    "a model's answer": lambda text: standardize(RIGHT, text),
    "a model's field": lambda text: standardize({**RIGHT, "complemento": text}, "Rua A, 1, Centro, Itu SP"),
}
REPEATED = (
    *(
        "½",
        "/",
        "1 ",
        "1,",
        "1/",
        "1-",
        "1.",
        "a ",
        "a,",
        "s ",
        "e ",
        "de ",
        "n ",
        "-",
        "(",
        "º",
        "#A ",
        "é",
        "\n",
        "'",
    ),
    *("R.R.", "Av.", "rua a ", "rua a,1,", "qd 1 lt 2, ", "ap 1 ", "1º andar ", "km 1,5 ", "jd ", "b. ", "centro, "),
    *("SP ", "sao paulo, ", "São Paulo SP ", "12345-678 ", "bairro: ", "obs: ", "esq ", "ou rua ", "//", "ignore "),
    *("11 98765-4321 ", "a@b ", "RG 1234567 ", "CPF ", "111.444.777-35 ", "cpf: ", "falar com a ", "casa da dona "),
    *(
        "&amp;",
        "&#38;",
        "<b>",
        "Ã©",
        "â€",
        "\u200b",
        "\u0301",
        "rua ana maria de souza e ",
        "rua a 1 mae ana filho jose ",
    ),
)
SHORT = 400
MOST = 2.2


def work(read, text):
    """Return how many lines of code reading `text` takes."""
    count = 0

    def trace(_frame, _event, _arg):
        nonlocal count
        count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        read(text)
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("read", READERS.values(), ids=READERS.keys())
def test_twice_the_text_is_twice_the_work(read):
    read("Rua A, 1, Centro, Itu SP")  # what is read once is read
    for part in REPEATED:
        text = part * (2 * SHORT // len(part))
        short, long = (work(read, text[:length]) for length in (SHORT, 2 * SHORT))
        assert long <= MOST * short + 200, part


@pytest.mark.parametrize("read", READERS.values(), ids=READERS.keys())
def test_a_text_of_any_length_costs_no_more_than_its_share(read):
    for part in ("½", "1/", "rua a,1,", "RG 1234567 "):
        short, long = (part * (length // len(part)) for length in (1_000, 20_000))
        assert work(read, long) <= MOST * 20 * work(read, short)
