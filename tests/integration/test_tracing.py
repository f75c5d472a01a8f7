"""Traces of a real worker over real services: what leaves, what never does, and that nothing does unasked."""

from __future__ import annotations

import gzip
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from normalizer.errors import Misconfigured
from normalizer.observability import tracing
from normalizer.observability.tracing import open_tracing, span
from normalizer.queue.service import TaskService
from normalizer.runtime import build_worker
from normalizer.settings import Settings, settings_of
from normalizer.simulation import embedded

NAME, CPF = "Fulana de Tal", "111.444.777-35"
EASY = "Av. Brasil, 100, Centro, Cascavel, PR"
HARD = "Rua das Acácias 12, Jardim Tal, Cidade Que Não Existe"  # only a model could read it


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    memory = InMemorySpanExporter()
    close = open_tracing(None, exporter=memory)
    yield memory
    close()


@pytest.fixture
def environment(redis_url: str, mongo_url: str, database: str, provider: embedded.ProviderService) -> dict[str, str]:
    return {
        "REDIS_URL": redis_url,
        "MONGODB_URL": mongo_url,
        "DATABASE_NAME": database,
        "BATCH_LINGER_MS": "20",
        "OPENAI_API_KEY": "simulated",
        "OPENAI_BASE_URL": provider.url,
        "OPENAI_MODEL": "simulated-model",
    }


async def normalize(settings: Settings, mongo: Any) -> None:
    """Two appointments through one worker, in this process."""
    for appointment_id, address in (("a", EASY), ("b", HARD)):
        row = {"endereco_completo": address, "documento_completo": f"CPF: {CPF}", "nome_paciente": NAME}
        mongo["appointments"].insert_one({"_id": appointment_id, "normalizacao": {"status": "pendente"}} | row)
    async with TaskService(settings.redis_url.get_secret_value()) as tasks:
        await tasks.enqueue_many(["a", "b"])
    worker = build_worker(settings, burst=True, handle_signals=False, poll_delay=0.05)
    await worker.async_run()
    await worker.close()


def flushed(exporter: InMemorySpanExporter) -> list[Any]:
    """What has ended, sent now instead of in some seconds."""
    tracing._tracer.span_processor.force_flush()
    return list(exporter.get_finished_spans())


async def test_group_model_call_and_store_write_are_told_in_counts(
    exporter: InMemorySpanExporter, environment: dict[str, str], mongo: Any
) -> None:
    await normalize(settings_of(environment), mongo)

    spans = flushed(exporter)
    group = next(one for one in spans if one.name == "group" and one.attributes["normalizer.jobs"] == 2)
    call = next(one for one in spans if one.name == "model.call")
    saves = [one for one in spans if one.name == "store.save"]
    assert call.attributes["gen_ai.request.model"] == "simulated-model"
    assert call.attributes["normalizer.records"] == 1
    assert call.attributes["gen_ai.usage.input_tokens"] > 0
    assert call.parent is None  # it serves whoever waits
    assert sum(one.attributes["normalizer.rows.saved"] for one in saves) == 2
    assert {one.context.trace_id for one in saves} == {group.context.trace_id}
    told = "".join(one.to_json() for one in spans)
    for datum in (NAME, CPF, "11144477735", "Brasil", "Cascavel", "Acácias", "Jardim Tal"):
        assert datum not in told


async def test_an_error_leaves_by_its_type_and_what_is_not_named_stays(exporter: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="Fulana"), span("group", jobs=1, patient=NAME, model="m" * 500):
        raise ValueError(NAME)

    (told,) = flushed(exporter)
    assert told.attributes["error.type"] == "ValueError"
    assert len(told.attributes["gen_ai.request.model"]) == 80
    assert (told.status.status_code, told.status.description, told.events) == (StatusCode.ERROR, None, ())
    assert NAME not in told.to_json()


async def test_the_spans_of_other_libraries_do_not_go_through_it(exporter: InMemorySpanExporter) -> None:
    from opentelemetry import trace

    with trace.get_tracer("pymongo").start_as_current_span(f"find {{nome: {NAME}}}"):
        pass

    assert flushed(exporter) == []


async def test_without_an_endpoint_nothing_is_opened(environment: dict[str, str], mongo: Any) -> None:
    await normalize(settings_of(environment), mongo)

    assert tracing._tracer is None
    assert settings_of({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/"}).traces_endpoint == "http://c:4318/v1/traces"
    off = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/x", "OTEL_SDK_DISABLED": "true"}
    assert settings_of(off).traces_endpoint is None
    assert settings_of(off | {"OTEL_SDK_DISABLED": "false"}).traces_endpoint == "http://c:4318/x"


def test_without_the_extra_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(Misconfigured, match=r"normalizer\[otel\]"):
        open_tracing("http://127.0.0.1:4318/v1/traces")


@pytest.fixture
def collector() -> Iterator[tuple[str, list[tuple[str, str | None, bytes]]]]:
    """Something that takes OTLP over HTTP, and what it was sent: path, header, body."""
    seen: list[tuple[str, str | None, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            zipped = self.headers.get("content-encoding") == "gzip"
            seen.append((self.path, self.headers.get("x-token"), gzip.decompress(body) if zipped else body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", seen
    server.shutdown()
    server.server_close()


async def test_a_worker_sends_to_the_collector_of_its_environment_before_it_ends(
    collector: tuple[str, list[tuple[str, str | None, bytes]]],
    environment: dict[str, str],
    mongo: Any,
    start_provider: Callable[..., embedded.ProviderService],
) -> None:
    url, seen = collector
    given = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_EXPORTER_OTLP_HEADERS": "x-token=k1", "OTEL_SERVICE_NAME": "w-1"}

    await normalize(settings_of(environment | given), mongo)

    assert {(path, token) for path, token, _ in seen} == {("/v1/traces", "k1")}
    sent = b"".join(body for *_, body in seen)
    for told in (b"w-1", b"group", b"model.call", b"store.save"):
        assert told in sent
    for datum in (NAME, CPF, "11144477735", "Cascavel", "Jardim Tal"):
        assert datum.encode() not in sent
    assert tracing._tracer is None
