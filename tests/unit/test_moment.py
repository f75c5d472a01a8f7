"""Dates and times as clinics write them."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from normalizer.domain.stored_form import parse_moment

FIRST_OF_DECEMBER = dt.date(2026, 12, 1)


@pytest.mark.parametrize(
    ("text", "date", "time"),
    [
        ("05/01/2026 08:30:00", "2026-01-05", "08:30"),
        ("5/1/26 8:30", "2026-01-05", "08:30"),
        ("2026-01-05T08:30:00", "2026-01-05", "08:30"),
        ("05/01/2026", "2026-01-05", None),
        ("01-dez-2026", "2026-12-01", None),
        ("1º de dezembro de 2026", "2026-12-01", None),
        ("terça-feira, 01/12/2026 08:30", "2026-12-01", "08:30"),
        ("01/12/2026\n08:30", "2026-12-01", "08:30"),
        ("01/12/2026 - 08:00", "2026-12-01", "08:00"),
        ("01/12/2026 às 08:30", "2026-12-01", "08:30"),
        ("01/12/2026 8:30 PM", "2026-12-01", "20:30"),
        ("01/12/2026 12:00 AM", "2026-12-01", "00:00"),
        ("01/12/2026 das 8 às 9h", "2026-12-01", "08:00"),
        ("08:00 - 08:30", None, "08:00"),
        ("das 14:00 às 15:00", None, "14:00"),
        ("8-9h", None, "08:00"),
        ("entre 8 e 9h", None, "08:00"),
        ("8 às 9", None, "08:00"),
        ("3 da tarde", None, "15:00"),
        ("8h30", None, "08:30"),
        ("08h30min", None, "08:30"),
        ("3:30 da tarde", None, "15:30"),
        ("meio-dia", None, "12:00"),
        ("46357", "2026-12-01", None),
        ("46357.354166667", "2026-12-01", "08:30"),
        ("0.354166667", None, "08:30"),
        ("31/12/1899 08:30:00", None, "08:30"),
    ],
)
def test_usual_spellings(text: str, date: str | None, time: str | None) -> None:
    moment = parse_moment(text)
    assert (moment.date and moment.date.isoformat()) == date
    assert (moment.time and f"{moment.time:%H:%M}") == time
    assert moment.whole


@pytest.mark.parametrize("text", ["31/02/2026", "amanhã", "", "24:00", "08:60", "1/12", "99/99/2026 Ana", "١/١/٢٠٢٦"])
def test_what_is_none_is_not_guessed(text: str) -> None:
    moment = parse_moment(text)
    assert (moment.date, moment.time, moment.whole) == (None, None, False)


@pytest.mark.parametrize("text", ["01/12/2026 às oito", "01/12/2026 manhã", "01/12/2026 25:00", "01/12/2026 8"])
def test_a_part_that_cannot_be_read_is_told(text: str) -> None:
    moment = parse_moment(text)
    assert (moment.date, moment.time, moment.whole) == (FIRST_OF_DECEMBER, None, False)


@pytest.mark.parametrize(
    ("text", "date", "time"),
    [
        ("2026-12-01T08:30:00-03:00", 1, "08:30"),
        ("2026-12-01T08:30-0400", 1, "08:30"),  # Manaus writes its own time
        ("2026-12-01T11:30:00Z", 1, "08:30"),
        ("2026-12-02T01:00:00+00:00", 1, "22:00"),
    ],
)
def test_zones(text: str, date: int, time: str) -> None:
    moment = parse_moment(text)
    assert moment.date == dt.date(2026, 12, date)
    assert f"{moment.time:%H:%M}" == time


@given(
    st.datetimes(dt.datetime(1990, 1, 1), dt.datetime(2090, 1, 1)),
    st.sampled_from(["%d/%m/%Y %H:%M", "%d/%m/%Y às %Hh%M", "%Y-%m-%dT%H:%M:%S", "%d.%m.%Y - %H:%M"]),
)
def test_what_is_written_is_read(moment: dt.datetime, form: str) -> None:
    read = parse_moment(moment.strftime(form))
    assert (read.date, read.time) == (moment.date(), moment.time().replace(second=0, microsecond=0))
    assert read.whole


@given(st.text(max_size=60))
def test_any_text_ends_in_a_moment(text: str) -> None:
    parse_moment(text)


@given(st.from_regex(r"[0-3][0-9]/[01][0-9]/[0-9]{4}", fullmatch=True), st.from_regex("[0-9:]{5,8}", fullmatch=True))
def test_the_usual_spelling_is_read_as_any_other(date: str, time: str) -> None:
    assert parse_moment(f"{date} {time}") == parse_moment(f" {date} {time}")


@pytest.mark.parametrize("text", ["até 10h", "até as 10:00", "01/12/2026 até 10:00"])
def test_an_end_alone_is_no_time(text: str) -> None:
    assert parse_moment(text).time is None
    assert not parse_moment(text).whole
