"""One event over a real socket: signed as the standard's library checks it, every bad answer told in a sentence."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
import standardwebhooks
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from normalizer.errors import Misconfigured
from normalizer.operations.events import Refused, Webhook, webhook_of
from normalizer.store.outbox import Event

EVENT = Event("msg_1", "appointments.normalized", datetime(2026, 11, 27, tzinfo=UTC), {"appointments": []})
OLD, NEW = (f"whsec_{base64.b64encode(seed * 32).decode()}" for seed in (b"o", b"n"))
Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def receiver(
    answer: bytes = b"HTTP/1.1 204 No Content\r\n\r\n", *, hang: bool = False
) -> AsyncIterator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
    """A receiver that answers so; gives its URL and what it was sent."""
    got: list[tuple[dict[str, str], bytes]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        got.append((headers, await reader.readexactly(int(headers["content-length"]))))
        if hang:
            await reader.read()
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook", got


@asynccontextmanager
async def sending(webhook: Webhook) -> AsyncIterator[Refused | None]:
    try:
        yield await webhook.send(EVENT)
    finally:
        await webhook.close()


async def test_the_standards_own_library_accepts_what_is_sent_with_either_secret() -> None:
    async with receiver() as (url, got), sending(webhook_of(url, f"{NEW},{OLD}", production=False)) as answer:
        assert answer is None
    ((headers, body),) = got
    for secret in (NEW, OLD):
        said = standardwebhooks.Webhook(secret).verify(body, headers)
        assert said["type"] == "appointments.normalized"
    assert headers["webhook-id"] == "msg_1"
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(NEW).verify(body + b" ", headers)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n", "HTTP 500"),
        (b"HTTP/1.1 301 Moved\r\nlocation: http://127.0.0.1/\r\ncontent-length: 0\r\n\r\n", "redireciona (301)"),
        (b"HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n", "pediu que não se envie mais"),
        (b"not http\r\n\r\n", "não se conecta"),
        (b"", "não se conecta"),
    ],
)
async def test_what_is_no_yes_is_refused_with_its_reason(answer: bytes, said: str) -> None:
    async with receiver(answer) as (url, _), sending(webhook_of(url, NEW, production=False)) as found:
        assert isinstance(found, Refused)
        assert said in found.reason
        assert found.for_good == (b"410" in answer)


async def test_a_yes_with_three_megabytes_behind_it_is_a_yes() -> None:
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 3000000\r\n\r\n" + b"x" * 3_000_000
    async with receiver(answer) as (url, _), sending(webhook_of(url, NEW, production=False)) as found:
        assert found is None


async def test_a_receiver_that_hangs_is_left() -> None:
    impatient = partial(Webhook, secrets=[b"k"], allowed_hosts=None, answer_s=0.2)
    async with receiver(hang=True) as (url, _), sending(impatient(url)) as found:
        assert found == Refused("não respondeu em 0 s")


async def test_a_certificate_nobody_signed_is_called_one(tls_server: str) -> None:
    async with sending(webhook_of(tls_server, NEW, production=False)) as found:
        assert isinstance(found, Refused)
        assert "o certificado não confere" in found.reason


@pytest.fixture
async def tls_server(tmp_path: Path) -> AsyncIterator[str]:
    self_signed = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    self_signed.load_cert_chain(self_signed_certificate(tmp_path))
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=self_signed)
    async with server:
        yield f"https://localhost:{server.sockets[0].getsockname()[1]}/"


def self_signed_certificate(folder: Path) -> Path:
    """Key and certificate of `localhost`, in one file, which no authority knows."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    file = folder / "self-signed.pem"
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(private + certificate.public_bytes(pem))
    return file


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "10.0.0.8", "[::1]", "169.254.169.254"])
async def test_in_production_a_private_address_is_refused_unless_named(host: str) -> None:
    url = f"http://{host}:9/hook"
    async with sending(webhook_of(url, NEW, production=True)) as found:
        assert found == Refused("o host leva a uma rede privada; permita-o em WEBHOOK_ALLOWED_HOSTS se é seu")
    named = webhook_of(url, NEW, production=True, allowed_hosts=f"x.example, {host.strip('[]')}")
    if host != "169.254.169.254" and not host.startswith("10."):
        async with sending(named) as found:
            assert "não se conecta" in found.reason  # type: ignore[union-attr]
    else:
        await named.close()


@pytest.mark.parametrize(
    ("url", "secret", "said"),
    [
        ("ftp://example.com/", NEW, "WEBHOOK_URL"),
        ("example.com/hook", NEW, "WEBHOOK_URL"),
        ("https:///hook", NEW, "WEBHOOK_URL"),
        *((f"https://{host}/hook", NEW, "WEBHOOK_URL") for host in ("h:porta", "h:99999", "h:0", "[::1", "..h", "a b")),
        (f"https://{'a' * 64}.example/", NEW, "WEBHOOK_URL"),
        ("https://example.com\x00/", NEW, "WEBHOOK_URL"),
        ("https://user:s3cret@example.com/", NEW, "usuário ou senha"),
        ("https://example.com/", None, "WEBHOOK_SECRET"),
        ("https://example.com/", "whsec_c2hvcnQ=", "de 24 a 64 bytes"),
        ("https://example.com/", "não é base64!", "base64"),
    ],
)
def test_what_cannot_be_used_is_said_at_start_without_a_secret(url: str, secret: str | None, said: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        webhook_of(url, secret, production=True)
    assert said in str(refused.value)
    assert "s3cret" not in str(refused.value)
    assert not secret or secret not in str(refused.value)
