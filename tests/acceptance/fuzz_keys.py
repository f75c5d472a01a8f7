"""Redis and uploads as somebody hostile leaves them, for a stated time, while a real worker and a real API run.

What is written is drawn from what the queue itself writes (jobs, claims, beats, results, abort members, the state of
the lane) with every value replaced by one of another kind, cut, or flipped; uploads are sheets of all formats, damaged.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import itertools
import pickle
import random
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import orjson
import redis
import xlsxwriter
import xlwt

from normalizer.queue.service import QUEUE_NAMES, TASK_NAME

_VALUES: tuple[bytes, ...] = (
    *(
        b"",
        b"{}",
        b"[]",
        b"null",
        b"0",
        b"-1",
        b"1e999",
        b"nan",
        b"\xff\xfe\x00",
        b"junk",
        b"\x80\x04\x95",
        b'"\\ud800"',
    ),
    b"[" * 50_000,
    b"9" * 5_000,
    pickle.dumps(exit),
)
_PLACES = (
    "/",
    "/api/status",
    "/api/imports",
    "/api/workers",
    "/health/ready",
    "/pagina/tabela",
    "/api/custo",
    "/metrics",
)


def forge(url: str, *, seconds: float, seed: int, alive: Callable[[], list[str]]) -> list[str]:
    """Write such keys at that Redis; what `alive` finds wrong meanwhile is the answer, at most ten."""
    rng, found, until = random.Random(seed), list[str](), time.monotonic() + seconds
    with contextlib.closing(redis.Redis.from_url(url)) as client:
        for turn in itertools.count():
            if time.monotonic() > until or len(found) > 10:
                return found
            with contextlib.suppress(redis.ResponseError):  # the key is of another type: it was forged before
                _ACTS[turn % len(_ACTS)](client, rng)
            if turn % 50 == 0:
                found += alive()
    raise AssertionError


def _job(rng: random.Random) -> bytes:
    job = {"t": 1, "f": TASK_NAME, "a": ["6740f0c2a1b2c3d4e5f60718"], "k": {}, "et": 1_700_000_000_000}
    field = rng.choice([*job, "x"])
    job[field] = rng.choice([None, 5, -1, 1e308, [], {}, [[]], "x" * 3_000, {"a": {"a": 1}}, ["\x00"], True])
    body = rng.choice([orjson.dumps, pickle.dumps])(job)
    return _damaged(body, rng) if rng.random() < 0.5 else body


def _damaged(body: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(body) + 1)
    return rng.choice([body[:at], body[at:], body[:at] + rng.randbytes(4) + body[at + 4 :], body[:at] + body])


def _name(rng: random.Random) -> bytes:
    return rng.choice([b"bad", b"\xff\xfe", b"", b"norm:x:y", rng.randbytes(8), b"a" * 2_000, b"\n"])


def _enqueue(client: redis.Redis, rng: random.Random) -> None:
    name = _name(rng)
    client.set(b"arq:job:" + name, _job(rng), ex=60)
    client.zadd(rng.choice(QUEUE_NAMES), {name: rng.choice([0, 1, -1, 1e300, time.time() * 1_000])})


def _claim(client: redis.Redis, rng: random.Random) -> None:
    key = rng.choice([b"arq:in-progress:", b"arq:retry:", b"arq:result:", b"arq:job:"]) + _name(rng)
    if rng.random() < 0.3:
        client.rpush(key, b"a list")
    else:
        client.set(key, rng.choice(_VALUES), ex=60)


def _abort(client: redis.Redis, rng: random.Random) -> None:
    client.zadd("arq:abort", {_name(rng): rng.choice([0, time.time() * 1_000, -1])})


def _beat(client: redis.Redis, rng: random.Random) -> None:
    """A replica that never was, or that says of itself what none does."""
    name = _name(rng)
    known = next((client.get(key) for key in client.scan_iter("arq:replica:*", count=200)), None) or b"{}"
    client.set(b"arq:replica:" + name, rng.choice([*_VALUES, _damaged(known, rng)]), ex=60)
    client.zadd("arq:replicas", {name: rng.choice([0, -1, 1e300, time.time(), time.time() * 1_000])})


def _spoil(client: redis.Redis, rng: random.Random) -> None:
    """A key that is there gets another value of its own type."""
    if not (keys := list(client.scan_iter(count=200))):
        return
    key, value = rng.choice(keys), rng.choice(_VALUES)
    kind = client.type(key)
    if kind == b"hash":
        client.hset(key, rng.choice([*client.hkeys(key), b"\xff"]), value)
    elif kind == b"zset":
        client.zadd(key, {value[:2_000]: rng.choice([0, 1e300])})
    elif kind == b"set":
        client.sadd(key, value[:2_000])
    elif kind == b"list":
        client.rpush(key, value)
    elif kind == b"string":
        client.set(key, rng.choice([value, _damaged(client.get(key) or b"x", rng)]), keepttl=True)


_ACTS = (_enqueue, _claim, _abort, _beat, _spoil)


def seen(url: str, key: str) -> Iterator[str]:
    """What pages and endpoints answered that no forged key may make them answer."""
    for path in _PLACES:
        status = _asked(urllib.request.Request(url + path, headers={"X-API-Key": key}))  # noqa: S310
        if status >= 500 and status != 503:
            yield f"{path} answered {status}"


def unlocked(url: str, key: str) -> Iterator[str]:
    """Operations of the document that answer somebody who shows no key."""
    asked = urllib.request.Request(f"{url}/openapi.json", headers={"X-API-Key": key})  # noqa: S310
    with urllib.request.urlopen(asked, timeout=60) as answer:  # noqa: S310
        paths = orjson.loads(answer.read())["paths"]
    for path, method in ((path, method) for path, methods in paths.items() for method in methods):
        place = url + re.sub(r"\{[^}]+\}", "x", path)
        status = _asked(urllib.request.Request(place, method=method.upper()))  # noqa: S310
        if status not in {401, 403} and not path.startswith("/health/"):
            yield f"{method} {path} answered {status} without a key"


def upload(url: str, key: str, *, seconds: float, seed: int) -> list[str]:
    """Damaged sheets over HTTP: each is taken, or refused in words; none is answered by 500."""
    rng, found, until, sent = random.Random(seed), list[str](), time.monotonic() + seconds, 0
    whole = tuple(_sheets())
    while time.monotonic() < until and len(found) < 10:
        body, sent = rng.choice(whole), sent + 1
        for _ in range(rng.randrange(1, 4)):
            body = _damaged(body, rng) or b"x"
        path = rng.choice(["/api/imports?nome=f.xlsx", "/api/imports/previa?nome=f.csv"])
        headers = {"X-API-Key": key, "Content-Type": "application/octet-stream"}
        status = _asked(urllib.request.Request(url + path, data=body, headers=headers, method="POST"))  # noqa: S310
        if status not in {200, 202, 413, 415, 422, 429, 503}:
            found.append(f"upload {sent} of seed {seed}: {status}")
    print(f"{sent} uploads")
    return found


def _asked(request: urllib.request.Request) -> int:
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, http.client.HTTPException):
        return 599


def _sheets() -> Iterator[bytes]:
    rows = [
        ["Nome", "Endereço", "CPF", "Data"],
        *[[f"Zé {n}", f"Rua São {n}, {n}", f"{n:011}", "01/12/2026"] for n in range(40)],
    ]
    for codec, parted in (("utf-8", ";"), ("cp1252", ","), ("utf-16", "\t")):
        yield "\n".join(parted.join(f'"{cell}"' for cell in row) for row in rows).encode(codec)
    cells = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    yield f"<html><table>{cells}</table></html>".encode()
    cell, office = (
        '<Cell><Data ss:Type="String">{}</Data></Cell>',
        'xmlns:ss="urn:schemas-microsoft-com:office:spreadsheet"',
    )
    data = "".join(f"<Row>{''.join(map(cell.format, row))}</Row>" for row in rows)
    book_2003 = f'<Workbook {office}><Worksheet ss:Name="A"><Table>{data}</Table></Worksheet></Workbook>'
    yield f'<?xml version="1.0"?>{book_2003}'.encode()
    buffer = io.BytesIO()
    with xlsxwriter.Workbook(buffer) as book:
        sheet = book.add_worksheet()
        for number, row in enumerate(rows):
            sheet.write_row(number, 0, row)
    yield buffer.getvalue()
    buffer, old = io.BytesIO(), xlwt.Workbook()
    page = old.add_sheet("A")
    for number, row in enumerate(rows):
        for column, cell in enumerate(row):
            page.write(number, column, cell)
    old.save(buffer)
    yield buffer.getvalue()
