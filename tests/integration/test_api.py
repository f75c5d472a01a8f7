"""The API as a client meets it: a real server on a port, real Redis and MongoDB behind it."""

from __future__ import annotations

import asyncio
import io
import json
import re
import socket
import zipfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import uvicorn
from python_calamine import CalamineWorkbook

from normalizer.api import Access, create_app, uploads
from normalizer.domain.address import Address
from normalizer.domain.appointment import Kind, Normalized, Origin, Review
from normalizer.domain.decision import Reason
from normalizer.imports.importing import ImportReport, import_sheet
from normalizer.imports.spreadsheet import Limits
from normalizer.runtime import Backend, open_backend
from normalizer.settings import settings_of
from normalizer.store import Result

OPERATOR, READER = "4b1f0c8e6a2d9375f0e1c2b3a4958677", "9e8d7c6b5a4f30211f2e3d4c5b6a7980"
AS_OPERATOR, AS_READER = {"X-API-Key": OPERATOR}, {"Authorization": f"Bearer {READER}"}
HEADER = "Id do agendamento;Nome do Paciente;Data/Hora Início Agendamento;Endereço Coleta;Documento(s) do Paciente"
SHEET = f"""{HEADER}
a1;Maria de Souza;10/10/2026 08:00:00;Av. Brasil, 100, Centro, Cascavel, PR;CPF: 11144477735
a2;João Lima;10/10/2026 08:10:00;Rua Sete de Setembro, 20, Centro, Blumenau, SC;RG: 123456789
""".encode()
ADDRESS = Address(rua="Avenida Brasil", numero="100", bairro="Centro", cidade="Cascavel", estado="PR")
PROBLEM = "application/problem+json"
FIELD_ALONE = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x--'


@pytest.fixture
async def backend(redis_url: str, mongo_url: str, database: str) -> AsyncIterator[Backend]:
    settings = settings_of({"REDIS_URL": redis_url, "MONGODB_URL": mongo_url, "DATABASE_NAME": database})
    async with open_backend(settings) as opened:
        yield opened


@asynccontextmanager
async def serving(backend: Backend, *, http: Any = "auto", **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """The app on a free port of this machine."""
    options.setdefault("access", Access([OPERATOR], [READER]))
    options.setdefault("patience_s", 2_000.0)  # a slow machine is told the same, only later
    app = create_app(backend, every_s=0.05, **options)
    config = uvicorn.Config(app, http=http, log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    task = asyncio.create_task(server.serve([listener]))
    try:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            while not server.started:  # noqa: ASYNC110 — uvicorn has no event to wait for
                await asyncio.sleep(0)
            yield client
    finally:
        server.should_exit = True
        await task


@pytest.fixture
async def client(backend: Backend) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(backend) as opened:
        yield opened


@pytest.fixture
def imported(client: httpx.AsyncClient) -> Callable[..., Any]:
    """Import a sheet and wait for its end; gives the import's id."""

    async def run(content: bytes = SHEET, name: str = "agenda.csv") -> str:
        answer = await client.post("/api/imports", params={"nome": name}, content=content, headers=AS_OPERATOR)
        assert answer.status_code == 202, answer.text
        import_id = answer.json()["id"]
        async with asyncio.timeout(20):
            while (await get(client, f"/api/imports/{import_id}"))["estado"] == "em andamento":  # noqa: ASYNC110
                await asyncio.sleep(0)
        return import_id

    return run


async def get(client: httpx.AsyncClient, path: str, headers: dict[str, str] | None = None, **params: Any) -> Any:
    answer = await client.get(path, headers=headers or AS_OPERATOR, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture(autouse=True)
def reads_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sheet that cannot be read is refused in the answer itself, also on a busy machine."""
    monkeypatch.setattr(uploads, "_SNIFF_S", 60)


async def until(client: httpx.AsyncClient, path: str, name: str, value: str) -> Any:
    """What stands at `path` once it says so."""
    async with asyncio.timeout(60):
        while (found := await get(client, path))[name] != value:  # noqa: ASYNC110 — asked over HTTP
            await asyncio.sleep(0)
        return found


async def one(client: httpx.AsyncClient, key: str = "a1") -> dict[str, Any]:
    (found,) = (await get(client, "/api/appointments", id_agendamento=key))["itens"]
    return found


async def finish(backend: Backend) -> None:
    """What a worker would do with everything that waits: the address is read, the document needs a person."""
    outcomes = {
        Kind.ADDRESS: Normalized(ADDRESS, Origin.RULES),
        Kind.DOCUMENT: Review(Reason.CPF_CHECK_DIGIT, Origin.RULES),
    }
    async for chunk in backend.store.pending():
        for item in (await backend.store.load([one.id for one in chunk])).values():
            await backend.store.save([Result(item, outcomes, fence=1, tries=1)])


class TestAccess:
    async def test_without_a_key_nothing_is_told(self, client: httpx.AsyncClient) -> None:
        for path in ("/api/status", "/api/appointments", "/api/imports", "/metrics", "/api/eventos", "/pagina/tabela"):
            answer = await client.get(path)
            assert (answer.status_code, answer.headers["content-type"]) == (401, PROBLEM), path

    async def test_a_wrong_key_is_no_key(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("/api/status", headers={"X-API-Key": OPERATOR[:-1]})
        assert answer.status_code == 401

    async def test_a_reader_reads_and_changes_nothing(self, client: httpx.AsyncClient, backend: Backend) -> None:
        assert (await client.get("/api/status", headers=AS_READER)).status_code == 200
        for method, path in (
            ("POST", "/api/fila/pause"),
            ("POST", "/api/imports"),
            ("POST", "/api/imports/previa"),
            ("POST", "/api/retry"),
            ("PATCH", "/api/appointments/x"),
            ("GET", "/api/imports/x/erros.xlsx"),
            ("GET", "/pagina/agendamentos/x/corrigir"),
        ):
            answer = await client.request(method, path, headers=AS_READER, json={})
            assert answer.status_code == 403, path
        assert (await backend.tasks.status()).state == "running"

    async def test_health_needs_no_key(self, client: httpx.AsyncClient) -> None:
        assert (await client.get("/health/live")).json() == {"estado": "ok"}
        assert (await client.get("/health/ready")).json() == {"estado": "ok"}

    async def test_without_keys_another_name_than_this_machine_is_refused(self, backend: Backend) -> None:
        async with serving(backend, access=Access()) as client:
            assert (await client.get("/api/status")).status_code == 200
            rebound = await client.get("/api/status", headers={"Host": "evil.example"})
            assert rebound.status_code == 403

    @pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
    async def test_another_site_steers_nothing(self, backend: Backend, headers: dict[str, str]) -> None:
        async with serving(backend, access=Access()) as client:
            assert (await client.post("/api/fila/pause", headers=headers)).status_code == 403
        assert (await backend.tasks.status()).state == "running"

    async def test_a_session_opens_the_page_and_ends(self, client: httpx.AsyncClient) -> None:
        assert "Chave de acesso" in (await client.get("/")).text
        refused = await client.post("/entrar", data={"chave": "wrong"})
        assert refused.status_code == 401
        assert COOKIE not in client.cookies

        entered = await client.post("/entrar", data={"chave": OPERATOR})

        assert (entered.status_code, entered.headers["location"]) == (303, "/")
        assert {"HttpOnly", "SameSite=strict"} <= set(entered.headers["set-cookie"].split("; "))
        assert OPERATOR not in entered.headers["set-cookie"]
        assert "Importar planilha" in (await client.get("/")).text
        await client.post("/sair")
        assert "Chave de acesso" in (await client.get("/")).text

    async def test_leaving_ends_every_copy_of_the_cookie(self, client: httpx.AsyncClient) -> None:
        await client.post("/entrar", data={"chave": OPERATOR})
        copied = {"Cookie": f"{COOKIE}={client.cookies[COOKIE]}"}
        await client.post("/sair")

        async with httpx.AsyncClient(base_url=client.base_url) as thief:
            assert (await thief.get("/api/status", headers=copied)).status_code == 401

    @pytest.mark.parametrize(
        ("headers", "secure"),
        [
            ({}, False),
            ({"X-Forwarded-Proto": "https"}, True),
            ({"X-Forwarded-Proto": "HTTPS, http"}, True),
            ({"X-Forwarded-Proto": "http, https"}, False),
            ({"Forwarded": 'for=10.0.0.1;proto="https", for=10.0.0.2'}, True),
        ],
    )
    async def test_a_cookie_got_by_https_is_sent_by_https_alone(
        self, client: httpx.AsyncClient, headers: dict[str, str], secure: bool
    ) -> None:
        entered = await client.post("/entrar", data={"chave": OPERATOR}, headers=headers)
        assert ("Secure" in entered.headers["set-cookie"].split("; ")) == secure

    async def test_wrong_keys_are_slowed_and_the_right_one_still_passes(self, client: httpx.AsyncClient) -> None:
        wrong = {"X-API-Key": OPERATOR[::-1]}
        answers = [await client.get("/api/status", headers=wrong) for _ in range(11)]

        assert [one.status_code for one in answers] == [401] * 10 + [429]
        assert int(answers[-1].headers["retry-after"]) > 0
        assert (await client.post("/entrar", data={"chave": "wrong"})).status_code == 429
        assert (await client.get("/api/status", headers=AS_OPERATOR)).status_code == 200

    @pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b"&" * 3000, b"chave=%ff%fe&" * 9])
    async def test_an_odd_form_or_body_without_a_key_is_no_error_of_ours(
        self, client: httpx.AsyncClient, body: bytes
    ) -> None:
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        assert (await client.post("/entrar", content=body, headers=form)).status_code in {401, 422}
        for path in ("/api/retry", "/api/imports", "/nowhere"):
            refused = await client.post(path, content=body, headers={"Content-Type": "application/json"})
            assert (refused.status_code, refused.headers["content-type"]) == (401, PROBLEM)

    async def test_the_description_of_the_api_is_for_who_has_a_key(self, client: httpx.AsyncClient) -> None:
        assert (await client.get("/openapi.json")).status_code == 401
        assert (await client.get("/openapi.json", headers=AS_READER)).status_code == 200

    async def test_a_body_is_not_read_before_the_key(self, client: httpx.AsyncClient) -> None:
        reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        writer.write(b"POST /api/imports HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n")
        assert (await reader.readline()).split()[1] == b"401"  # nothing of the body was sent
        writer.close()

    async def test_no_other_origin_may_read(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("/api/status", headers={**AS_OPERATOR, "Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in answer.headers


COOKIE = "normalizer_sessao"


class TestImports:
    async def test_a_preview_writes_nothing(self, client: httpx.AsyncClient) -> None:
        answer = await client.post("/api/imports/previa", content=SHEET, headers=AS_OPERATOR)

        assert answer.status_code == 200, answer.text
        assert (answer.json()["linhas"], answer.json()["novas"]) == (2, 2)
        assert (await get(client, "/api/appointments"))["total"] == 0
        assert await get(client, "/api/imports") == []

    async def test_a_form_with_the_sheet_is_the_sheet(self, client: httpx.AsyncClient, backend: Backend) -> None:
        form = {"files": {"arquivo": ("agenda de março.csv", SHEET)}, "data": {"obs": "x"}, "headers": AS_OPERATOR}
        previewed = await client.post("/api/imports/previa", **form)
        assert (previewed.status_code, previewed.json()["linhas"]) == (200, 2), previewed.text

        started = await client.post("/api/imports", **form)
        about = await until(client, f"/api/imports/{started.json()['id']}", "estado", "concluida")

        assert (about["arquivo"], about["linhas"], about["novas"]) == ("agenda de março.csv", 2, 2)

    @pytest.mark.parametrize(
        ("kind", "body", "said"),
        [
            (
                "multipart/form-data; boundary=x",
                b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x--',
                "arquivo",
            ),
            ("multipart/form-data; boundary=x", b"Id;Nome\n1;Maria\n", "não se lê"),
            ("multipart/form-data", b"--x", "não se lê"),
            (
                "multipart/form-data; boundary=x",
                b'--x\r\nContent-Disposition: form-data; name="a"; filename="a.csv"\r\n\r\nId;No',
                "não se lê",
            ),
        ],
    )
    async def test_a_form_without_a_whole_file_stores_nothing(
        self, client: httpx.AsyncClient, kind: str, body: bytes, said: str
    ) -> None:
        answer = await client.post("/api/imports", content=body, headers={**AS_OPERATOR, "Content-Type": kind})
        assert (answer.status_code, said in answer.json()["detail"]) == (422, True), answer.text
        assert (await get(client, "/api/appointments"))["total"] == 0

    async def test_a_sheet_is_imported_and_queued_once(
        self, client: httpx.AsyncClient, backend: Backend, imported: Callable[..., Any]
    ) -> None:
        first, second = await imported(), await imported()

        told = {import_id: await get(client, f"/api/imports/{import_id}") for import_id in (first, second)}
        assert (told[first]["novas"], told[first]["gravadas"], told[first]["arquivo"]) == (2, 2, "agenda.csv")
        assert (told[second]["novas"], told[second]["iguais"]) == (0, 2)
        assert told[first]["progresso"]["pendente"] == 2
        assert (await backend.tasks.status()).due == 2

    async def test_a_file_that_is_no_sheet_is_refused_in_one_sentence(self, client: httpx.AsyncClient) -> None:
        answer = await client.post("/api/imports", content=b"%PDF-1.7 ...", headers=AS_OPERATOR)

        assert (answer.status_code, answer.headers["content-type"]) == (422, PROBLEM)
        assert "planilha" in answer.json()["detail"]
        assert await get(client, "/api/imports") == []

    async def test_a_request_told_twice_is_one_import(self, client: httpx.AsyncClient, backend: Backend) -> None:
        called = AS_OPERATOR | {"Idempotency-Key": "planilha-de-segunda"}
        answers = await asyncio.gather(
            *(client.post("/api/imports", content=SHEET, headers=called) for _ in range(3)),
        )
        assert [answer.status_code for answer in answers] == [202] * 3
        (import_id,) = {answer.json()["id"] for answer in answers}
        await until(client, f"/api/imports/{import_id}", "estado", "concluida")
        again = await client.post("/api/imports", content=SHEET, headers=called)
        assert again.json()["id"] == import_id
        assert [one["id"] for one in await get(client, "/api/imports")] == [import_id]
        other = await client.post("/api/imports", content=SHEET + b"x", headers=called)
        assert (other.status_code, "outro arquivo" in other.json()["detail"]) == (422, True)

    async def test_the_answer_does_not_wait_for_the_reading(
        self, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(uploads, "_SNIFF_S", 0)
        answer = await client.post("/api/imports", content=b"%PDF-1.7 ...", headers=AS_OPERATOR)
        assert answer.status_code == 202
        refused = await until(client, f"/api/imports/{answer.json()['id']}", "estado", "recusada")
        assert "planilha" in refused["recusa"]
        assert refused["desfaz_ate"] is None

    async def test_a_zip_bomb_is_refused(self, client: httpx.AsyncClient) -> None:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("xl/workbook.xml", "<workbook/>")
            archive.writestr("xl/worksheets/sheet1.xml", b"0" * 50_000_000)

        answer = await client.post("/api/imports/previa", content=packed.getvalue(), headers=AS_OPERATOR)

        assert answer.status_code == 422
        assert "explode" in answer.json()["detail"]

    async def test_a_file_beyond_the_limit_is_cut_off(self, backend: Backend) -> None:
        async def endless() -> AsyncIterator[bytes]:
            for _ in range(100):
                yield b"x" * 1024

        async with serving(backend, limits=Limits(file_bytes=2**14)) as client:
            answer = await client.post("/api/imports", content=endless(), headers=AS_OPERATOR)
        assert answer.status_code == 413

    async def test_a_body_beyond_reason_is_refused_elsewhere(self, client: httpx.AsyncClient) -> None:
        for content in (b"x" * 300_000, _chunks(b"x" * 300_000)):
            answer = await client.post("/api/retry", content=content, headers=AS_OPERATOR)
            assert (answer.status_code, answer.headers["content-type"]) == (413, PROBLEM)

    async def test_a_files_name_is_stored_without_its_path(
        self, client: httpx.AsyncClient, imported: Callable[..., Any]
    ) -> None:
        import_id = await imported(name="C:\\clínica\\..\\agenda\x00.csv")
        assert (await get(client, f"/api/imports/{import_id}"))["arquivo"] == "agenda.csv"

    async def test_a_reader_sees_no_patient_in_a_files_name(
        self, client: httpx.AsyncClient, imported: Callable[..., Any]
    ) -> None:
        import_id = await imported(name="agenda Zuleica.csv")
        shown = [
            await get(client, f"/api/imports/{import_id}", AS_READER),
            (await get(client, "/api/imports", AS_READER))[0],
            (await get(client, "/api/status", AS_READER))["importacoes"][0],
        ]
        assert [one["arquivo"] for one in shown] == ["agenda •••••••.csv"] * 3
        row = (await get(client, "/api/appointments?tamanho=1", AS_READER))["itens"][0]
        told = await get(client, f"/api/appointments/{row['id']}", AS_READER)
        assert told["linha_do_tempo"][0]["detalhe"] == "agenda •••••••.csv"
        assert "Zuleica" not in (await client.get("/", headers=AS_READER)).text
        assert (await get(client, "/api/imports"))[0]["arquivo"] == "agenda Zuleica.csv"

    async def test_rows_to_correct_come_back_as_a_sheet_that_can_be_imported(
        self, client: httpx.AsyncClient, backend: Backend, imported: Callable[..., Any]
    ) -> None:
        broken = SHEET + b'a3;Ana;32/13/2026 08:00:00;"=HYPERLINK(""http://x"")";RG: 123456789\n'
        import_id = await imported(broken)
        await finish(backend)

        answer = await client.get(f"/api/imports/{import_id}/erros.xlsx", headers=AS_OPERATOR)

        book = CalamineWorkbook.from_filelike(io.BytesIO(answer.content))
        rows = book.get_sheet_by_index(0).to_python()
        assert rows[0][:5] == HEADER.split(";")
        assert rows[0][-2:] == ["Erro", "Como corrigir"]
        assert rows[1][0] == "a3"
        assert rows[1][3] == '=HYPERLINK("http://x")'
        assert "data e hora" in rows[1][-2]
        assert b"<f>" not in zipfile.ZipFile(io.BytesIO(answer.content)).read("xl/worksheets/sheet1.xml")
        review = book.get_sheet_by_name("Para revisar").to_python()
        assert "documento: CPF com dígito inválido" in [row[-2] for row in review]
        again = await client.post("/api/imports/previa", content=answer.content, headers=AS_OPERATOR)
        assert again.status_code == 200, again.text
        assert again.json()["novas"] == 0

    async def test_errors_show_the_shape_of_a_cell_alone(
        self, client: httpx.AsyncClient, imported: Callable[..., Any]
    ) -> None:
        import_id = await imported(SHEET + b"a3;Ana;ontem;Rua B, 1;RG: 123456789\n")

        (problem,) = (await get(client, f"/api/imports/{import_id}/erros", AS_READER))["itens"]

        assert (problem["linha"], problem["encontrado"]) == (4, "“xxxxx”")

    async def test_undo_takes_everything_back_once(
        self, client: httpx.AsyncClient, imported: Callable[..., Any]
    ) -> None:
        import_id = await imported()

        undone = await client.post(f"/api/imports/{import_id}/desfazer", headers=AS_OPERATOR)
        again = await client.post(f"/api/imports/{import_id}/desfazer", headers=AS_OPERATOR)

        assert (undone.status_code, undone.json()) == (
            200,
            {"estado": "desfeita", "removidos": 2, "restaurados": 0, "mantidos": 0},
        )
        assert again.status_code == 409
        assert (await get(client, "/api/appointments"))["total"] == 0
        assert (await get(client, f"/api/imports/{import_id}"))["estado"] == "desfeita"

    async def test_what_takes_longer_goes_on_and_is_followed(self, backend: Backend, database: str, mongo: Any) -> None:
        rows = "".join(
            f"b{n};Ana;10/10/2026 08:00:00;Av. Brasil, {n}, Cascavel, PR;RG: 123456789\n" for n in range(1_200)
        )
        content = f"{HEADER}\n{rows}".encode()
        async with serving(backend, patience_s=0.0) as client:
            begun = await client.post("/api/imports/previa", content=content, headers=AS_OPERATOR)
            assert (begun.status_code, begun.json()["previa"]) == (202, None)
            preview = await until(client, begun.headers["location"], "fase", "pronta")
            assert (preview["previa"]["novas"], preview["feitas"], preview["linhas"]) == (1_200, 1_200, 1_200)
            assert preview["previa"]["custo"]["linhas"] == 1_200
            assert mongo["appointments"].count_documents({}) == 0

            import_id = (await client.post("/api/imports", content=content, headers=AS_OPERATOR)).json()["id"]
            await until(client, f"/api/imports/{import_id}", "estado", "concluida")
            undone = await client.post(f"/api/imports/{import_id}/desfazer", headers=AS_OPERATOR)
            assert (undone.status_code, undone.headers["location"]) == (202, f"/api/imports/{import_id}")
            again = await client.post(f"/api/imports/{import_id}/desfazer", headers=AS_OPERATOR)
            after = await until(client, f"/api/imports/{import_id}", "estado", "desfeita")

        assert again.status_code in {202, 409}  # 409 once the first one has noted that it began
        assert (after["desfeitas"], after["desfaz_ate"]) == (1_200, None)
        assert mongo["appointments"].count_documents({}) == 0

    async def test_a_preview_that_is_refused_later_says_why(
        self, backend: Backend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answered = asyncio.Event()

        async def read_once_answered(*args: Any, **options: Any) -> ImportReport:
            await answered.wait()
            return await import_sheet(*args, **options)

        monkeypatch.setattr(uploads, "import_sheet", read_once_answered)
        async with serving(backend, patience_s=0.0) as client:
            begun = await client.post("/api/imports/previa", content=b"%PDF-1.7", headers=AS_OPERATOR)
            answered.set()
            told = await until(client, begun.headers["location"], "fase", "recusada")

        assert "planilha" in told["problema"]

    async def test_titles_explained_once_are_understood_afterwards(
        self, client: httpx.AsyncClient, imported: Callable[..., Any]
    ) -> None:
        sheet = "Nome da Marca;Paciente;Moradia;RG\nClínica Um;Ana;Av. Brasil, 100, Cascavel, PR;123456789\n".encode()
        said = {"coluna": ["Moradia=endereco_completo"], "nome": "agenda.csv"}
        path, headers = "/api/imports/previa", AS_OPERATOR

        before = (await client.post(path, content=sheet, headers=headers)).json()
        told = (await client.post(path, content=sheet, params=said, headers=headers)).json()
        forgotten = (await client.post(path, content=sheet, headers=headers)).json()
        started = await client.post("/api/imports", content=sheet, params=said, headers=headers)
        await until(client, started.headers["location"], "estado", "concluida")
        after = (await client.post(path, content=sheet, headers=headers)).json()

        assert before["colunas_desconhecidas"] == forgotten["colunas_desconhecidas"] == ["Moradia"]
        assert (told["colunas_indicadas"], told["novas"]) == ({"Moradia": "endereco_completo"}, 1)
        assert (after["colunas_indicadas"], after["iguais"]) == ({"Moradia": "endereco_completo"}, 1)
        remembered = await get(client, "/api/imports/colunas", AS_READER)
        assert {one["de"].split(":")[0] for one in remembered} == {"marca", "titulos"}
        assert all(one["colunas"] == {"moradia": "endereco_completo"} for one in remembered)

    async def test_a_sheet_of_unknown_titles_is_refused_with_those_to_explain(self, client: httpx.AsyncClient) -> None:
        sheet = b"Customer;Address\nAna;Av. Brasil, 100, Cascavel, PR\n"

        api = await client.post("/api/imports", content=sheet, headers=AS_OPERATOR)
        page = await client.post("/pagina/previa", content=sheet, headers=AS_OPERATOR)
        slip = await client.post(
            "/api/imports", content=sheet, params={"coluna": "Address=morada"}, headers=AS_OPERATOR
        )

        assert (api.status_code, [error["campo"] for error in api.json()["errors"][1:]]) == (
            422,
            ["Customer", "Address"],
        )
        assert (page.status_code, page.text.count("<select")) == (200, 2)
        assert "Ana" not in page.text
        assert (slip.status_code, "endereco_completo" in slip.json()["detail"]) == (422, True)

    async def test_the_template_can_be_imported(self, client: httpx.AsyncClient) -> None:
        template = (await client.get("/api/imports/modelo.xlsx", headers=AS_READER)).content
        (titles,) = CalamineWorkbook.from_filelike(io.BytesIO(template)).get_sheet_by_index(0).to_python()
        row = dict.fromkeys(titles, "") | {"Id do agendamento": "t1", "Endereço Completo": "Rua B, 1, Cascavel, PR"}
        filled = ";".join(titles) + "\n" + ";".join(row.values()) + "\n"

        answer = await client.post("/api/imports/previa", content=filled.encode(), headers=AS_OPERATOR)

        assert (answer.json()["novas"], answer.json()["total_problemas"]) == (1, 0)

    @pytest.mark.parametrize("path", ["/api/imports/nope", "/api/imports/nope/erros", "/api/appointments/nope"])
    async def test_what_does_not_exist_is_said_so(self, client: httpx.AsyncClient, path: str) -> None:
        answer = await client.get(path, headers=AS_OPERATOR)
        assert (answer.status_code, answer.headers["content-type"]) == (404, PROBLEM)


async def _chunks(content: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(content), 10_000):
        yield content[at : at + 10_000]


def zipped(parts: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return packed.getvalue()


class TestHostileUploads:
    """What is sent to harm is refused in a clear sentence, while the import beside it goes on."""

    BOOK = b"<workbook/>"
    XXE = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
    LIMITS = Limits(file_bytes=2**22)

    @pytest.mark.parametrize(
        ("content", "status", "said"),
        [
            (zipped({"xl/workbook.xml": BOOK, "xl/worksheets/sheet1.xml": b"0" * 50_000_000}), 422, "explode"),
            (f"{HEADER}\n".encode() + b"a" * 2_000_000, 422, "por linha"),
            (zipped({"xl/workbook.xml": XXE + BOOK}), 422, "danificado"),
            (b"GIF89a" + bytes(1_000), 422, "outro tipo de arquivo"),
            (b"a" * (2**22 + 1), 413, "passa de 4 MB"),
            (None, 413, "passa de 4 MB"),
        ],
        ids=[
            "zip bomb",
            "endless line",
            "external entity",
            "no sheet",
            "too large",
            "far too large, of no stated length",
        ],
    )
    async def test_it_is_refused_and_the_import_beside_it_goes_on(
        self, backend: Backend, content: bytes | None, status: int, said: str
    ) -> None:
        rows = "".join(
            f"h{n};Ana;10/10/2026 08:00:00;Av. Brasil, {n}, Cascavel, PR;RG: 123456789\n" for n in range(500)
        )
        async with serving(backend, limits=self.LIMITS) as client:
            begun = await client.post("/api/imports", content=f"{HEADER}\n{rows}".encode(), headers=AS_OPERATOR)
            for path in ("/api/imports/previa", "/api/imports", "/pagina/previa"):
                body = content if content is not None else _chunks(b"a" * 2**24)
                answer = await client.post(path, content=body, headers=AS_OPERATOR)
                if answer.status_code == 202:  # seen only after the answer: the import says so
                    assert said in (await until(client, answer.headers["location"], "estado", "recusada"))["recusa"]
                    continue
                assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM), answer.text
                assert said in answer.json()["detail"]
            ended = await until(client, begun.headers["location"], "estado", "concluida")
            assert {one["estado"] for one in await get(client, "/api/imports")} <= {"concluida", "recusada"}

        assert (ended["novas"], ended["problemas"]) == (500, 0)

    async def test_what_looks_like_a_formula_or_an_entity_is_text(
        self, client: httpx.AsyncClient, imported: Callable[..., Any]
    ) -> None:
        await imported(f"{HEADER}\nf1;Ana;ontem;\"=cmd|' /C calc'!A0\";RG: 123456789\n".encode())
        table = "<table><tr><th>CPF</th><th>Endereço</th></tr><tr><td>1</td><td>Rua &e;</td></tr></table>"
        await imported(self.XXE + table.encode(), name="agenda.xls")

        stored = (await get(client, "/api/appointments", documentos="abertos"))["itens"]
        assert {one["endereco"]["texto"] for one in stored} == {"=cmd|' /C calc'!A0", "Rua &e;"}


class TestAppointments:
    async def test_documents_and_names_are_hidden_unless_an_operator_asks(
        self, client: httpx.AsyncClient, imported: Callable[..., Any]
    ) -> None:
        await imported()

        hidden = await client.get("/api/appointments", headers=AS_OPERATOR)
        shown = await client.get("/api/appointments", headers=AS_OPERATOR, params={"documentos": "abertos"})
        refused = await client.get("/api/appointments", headers=AS_READER, params={"documentos": "abertos"})
        page = await client.get("/pagina/tabela", headers=AS_OPERATOR)

        for text in (hidden.text, page.text):
            assert not re.search("11144477735|123456789|Maria|Souza", text)
        assert "11144477735" in shown.text
        assert "Maria de Souza" in shown.text
        assert refused.status_code == 403

    async def test_each_page_says_where_the_next_one_begins(
        self, client: httpx.AsyncClient, imported: Callable[..., Any]
    ) -> None:
        await imported()
        whole = [each["id"] for each in (await get(client, "/api/appointments"))["itens"]]
        seen, page = [], await get(client, "/api/appointments", tamanho=1)
        while page["depois"]:
            seen += page["itens"]
            page = await get(client, "/api/appointments", tamanho=1, depois=page["depois"])

        assert [each["id"] for each in [*seen, *page["itens"]]] == whole
        assert len(whole) > 1
        wrong = await client.get("/api/appointments", headers=AS_READER, params={"depois": "lugar nenhum"})
        assert wrong.status_code in {400, 422}
        assert "primeira página" in wrong.text

    async def test_one_tells_its_way(
        self, client: httpx.AsyncClient, backend: Backend, imported: Callable[..., Any]
    ) -> None:
        await imported()
        await finish(backend)

        told = await get(client, f"/api/appointments/{(await one(client))['id']}", AS_READER)

        steps = [step["etapa"] for step in told["linha_do_tempo"]]
        assert steps == [
            "importado",
            "endereço lido pelas regras",
            "documento deixado em revisão pelas regras",
            "espera uma pessoa",
        ]
        assert told["causas"] == ["documento: CPF com dígito inválido"]

    async def test_a_correction_is_checked_stored_and_remembered(
        self, client: httpx.AsyncClient, backend: Backend, imported: Callable[..., Any]
    ) -> None:
        await imported()
        await finish(backend)
        before = await one(client)
        wanted = {"rua": "Avenida Brasil", "numero": "101", "cidade": "cascavel", "estado": "paraná", "cep": "85801000"}

        answer = await client.patch(
            f"/api/appointments/{before['id']}",
            headers=AS_OPERATOR,
            json={"endereco": wanted, "documento": {"cpf": "529.982.247-25"}, "revisao": before["revisao"]},
        )

        assert answer.status_code == 200, answer.text
        after = answer.json()
        assert after["endereco"]["normalizado"]["cidade"] == "Cascavel"
        assert after["endereco"]["normalizado"]["cep"] == "85801-000"
        assert (after["endereco"]["origem"], after["status"]) == ("manual", "concluido")
        assert "52998224725" not in answer.text
        stored = await backend.store.one(before["id"])
        assert stored is not None
        assert stored.sources["cpf"] == "52998224725"
        known = await backend.cache.get_many(Kind.ADDRESS, ["Av. Brasil, 100, Centro, Cascavel, PR"])
        assert [(entry.manual, entry.address["numero"]) for entry in known.values() if entry.address] == [(True, "101")]

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"endereco": {"rua": "Rua A", "cidade": "Cascavel", "estado": "ZZ"}}, "estado"),
            ({"endereco": {"rua": "Rua A", "cidade": "Atlântida Perdida", "estado": "PR"}}, "cidade"),
            ({"endereco": {"rua": "Rua A", "cidade": "Cascavel", "estado": "PR", "numero": "10A"}}, "numero"),
            ({"endereco": {"rua": "Rua A", "cidade": "Cascavel", "estado": "PR", "cep": "01001-000"}}, "cep"),
            ({"endereco": {"rua": " ", "cidade": "Cascavel", "estado": "PR"}}, "rua"),
            ({"documento": {"cpf": "111.444.777-36"}}, "cpf"),
            ({"documento": {"rg": "12"}}, "rg"),
            ({"documento": {}}, "cpf"),
        ],
    )
    async def test_what_cannot_be_is_refused_by_field(
        self, client: httpx.AsyncClient, imported: Callable[..., Any], body: dict[str, Any], field: str
    ) -> None:
        await imported()
        found = await one(client)

        answer = await client.patch(f"/api/appointments/{found['id']}", headers=AS_OPERATOR, json=body)

        assert answer.status_code == 422
        assert answer.json()["errors"][0]["campo"] == field
        assert (await one(client))["revisao"] == found["revisao"]

    async def test_nobody_overwrites_what_they_did_not_see(
        self, client: httpx.AsyncClient, imported: Callable[..., Any]
    ) -> None:
        await imported()
        found = await one(client)
        body = {"documento": {"cpf": "52998224725"}, "revisao": found["revisao"]}

        first = await client.patch(f"/api/appointments/{found['id']}", headers=AS_OPERATOR, json=body)
        second = await client.patch(f"/api/appointments/{found['id']}", headers=AS_OPERATOR, json=body)

        assert (first.status_code, second.status_code) == (200, 409)

    async def test_retry_puts_back_one_or_all(
        self, client: httpx.AsyncClient, backend: Backend, imported: Callable[..., Any]
    ) -> None:
        await imported()
        await finish(backend)

        single = await client.post(f"/api/appointments/{(await one(client))['id']}/retry", headers=AS_OPERATOR)
        rest = await client.post("/api/retry", headers=AS_OPERATOR, json={"status": ["revisar"]})

        assert (single.json(), rest.json()) == ({"enfileirados": 1}, {"enfileirados": 1})
        assert (await get(client, "/api/appointments", status="pendente"))["total"] == 2

    async def test_cells_are_text_to_the_page(self, client: httpx.AsyncClient, imported: Callable[..., Any]) -> None:
        evil = (
            f'{HEADER}\n"<b>k</b>";<script>alert(1)</script>;10/10/2026 08:00:00;"Rua <img src=x>, 1";RG: 123456789\n'
        )
        await imported(evil.encode(), name="<i>agenda</i>.csv")
        found = (await get(client, "/api/appointments"))["itens"][0]

        for path in (
            "/pagina/tabela",
            f"/pagina/agendamentos/{found['id']}/corrigir",
            "/pagina/agendamentos/" + found["id"],
        ):
            text = (await client.get(path, headers=AS_OPERATOR)).text
            assert not re.search("<b>|<script>|<img|<i>", text), path
            assert "&lt;b&gt;" in text


class TestOutage:
    """Services that are away: said so, and mended by themselves."""

    async def test_it_is_said_and_ends(
        self, valkey: Any, redis_url: str, backend: Backend, imported: Callable[..., Any], client: httpx.AsyncClient
    ) -> None:
        if not redis_url.startswith(valkey.url.rsplit("/", 1)[0]):
            pytest.skip("stops Redis: only on the session's own")
        await imported()
        valkey.stop()
        try:
            ready = await client.get("/health/ready")
            status = await client.get("/api/workers", headers=AS_READER)
            told = (await client.get("/api/status", headers=AS_READER)).json()
            await imported(SHEET.replace(b"a1;", b"z1;").replace(b"a2;", b"z2;"), name="enquanto.csv")
            await client.post("/entrar", data={"chave": OPERATOR})
            async with asyncio.timeout(60):
                while "enquanto.csv" not in (page := (await client.get("/")).text):  # accepted meanwhile
                    assert "Um serviço não responde." in page
        finally:
            valkey.start()

        assert ready.status_code == 503
        assert (status.status_code, status.headers["content-type"]) == (503, PROBLEM)
        assert int(status.headers["retry-after"]) > 0
        assert "Redis" in told["problema"]
        assert "Um serviço não responde." in page
        assert "em dia" not in page
        assert (await client.get("/health/ready")).status_code == 200


class TestSystem:
    async def test_the_queue_is_steered(self, client: httpx.AsyncClient) -> None:
        states = [
            (await client.post(f"/api/fila/{order}", headers=AS_OPERATOR)).json()["estado"]
            for order in ("pause", "drain", "resume")
        ]
        assert states == ["paused", "draining", "running"]

    async def test_status_cost_workers_and_metrics(self, client: httpx.AsyncClient) -> None:
        status = await get(client, "/api/status", AS_READER)
        assert (status["estado"], status["progresso"]["total"]) == ("running", 0)
        assert (await get(client, "/api/custo", AS_READER))["hoje"]["usd"] == 0
        assert await get(client, "/api/workers", AS_READER) == []
        metrics = await client.get("/metrics", headers=AS_READER)
        assert "normalizer_redis_up 1.0" in metrics.text

    async def test_events_tell_each_new_reading(self, client: httpx.AsyncClient, imported: Callable[..., Any]) -> None:
        async with client.stream("GET", "/api/eventos", headers=AS_READER) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = answer.aiter_lines()
            seen = [await _next(lines)]
            await imported()
            async with asyncio.timeout(20):
                while seen[-1]["progresso"]["total"] < 2:
                    seen.append(await _next(lines))

        assert seen[0]["progresso"]["total"] == 0
        assert seen[-1]["importacoes"][0]["arquivo"] == "agenda.csv"

    async def test_every_answer_keeps_the_page_to_itself(self, client: httpx.AsyncClient) -> None:
        for path in ("/", "/static/pagina.js", "/api/status", "/nope"):
            headers = (await client.get(path)).headers
            assert "default-src 'none'" in headers["content-security-policy"], path
            assert "unsafe" not in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"

    async def test_the_page_asks_no_other_host(self, client: httpx.AsyncClient) -> None:
        await client.post("/entrar", data={"chave": OPERATOR})
        for path in ("/", "/static/pagina.js", "/static/comum.js", "/static/pagina.css"):
            text = (await client.get(path)).text.replace("http://www.w3.org/2000/svg", "")
            assert not re.search(r"(https?:)?//[a-z]", re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE)), path
            assert not re.search(r'\sstyle="|<script>|\son[a-z]+="', text), path

    async def test_openapi_names_every_path_with_its_problems(self, client: httpx.AsyncClient) -> None:
        document = await get(client, "/openapi.json")

        assert {"/api/imports", "/api/appointments/{appointment_id}", "/metrics"} <= document["paths"].keys()
        assert "/pagina/tabela" not in document["paths"]
        answers = document["paths"]["/api/appointments/{appointment_id}"]["patch"]["responses"]
        assert {"200", "401", "403", "404", "409", "422"} <= answers.keys()
        assert PROBLEM in answers["422"]["content"]

    async def test_a_method_that_is_not_taken_is_told_those_that_are(self, client: httpx.AsyncClient) -> None:
        answer = await client.delete("/api/appointments/x", headers=AS_OPERATOR)

        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, PATCH")
        # /api/imports/{import_id} fits, too, and is another resource
        preview = await client.delete("/api/imports/previa", headers=AS_OPERATOR)
        assert (preview.status_code, preview.headers["allow"]) == (405, "POST")

    async def test_a_body_that_is_no_json_is_told_so(self, client: httpx.AsyncClient) -> None:
        headers = {**AS_OPERATOR, "Content-Type": "application/json"}
        for content, status in ((b"{", 422), (b'"\xff"', 400)):
            answer = await client.patch("/api/appointments/x", content=content, headers=headers)
            assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM)

    async def test_a_request_that_does_not_fit_is_told_without_its_values(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("/api/appointments", headers=AS_OPERATOR, params={"pagina": "11144477735x"})

        assert (answer.status_code, answer.headers["content-type"]) == (422, PROBLEM)
        assert "11144477735" not in answer.text
        assert answer.json()["errors"] == [{"campo": "pagina", "esperado": "um número inteiro"}]


async def _next(lines: AsyncIterator[str]) -> dict[str, Any]:
    async with asyncio.timeout(20):
        async for line in lines:
            if line.startswith("data: "):
                found: dict[str, Any] = json.loads(line[6:])
                return found
    raise AssertionError("the events ended")


class TestEdits:
    async def test_cells_are_edited_beside_the_file_in_the_body_and_equal_problems_stand_together(
        self, client: httpx.AsyncClient
    ) -> None:
        rows = "".join(f"e{n};Ana;31/02/2026 08:00;Av. Brasil, {n}, Cascavel, PR;\n" for n in range(3))
        sheet = f"{HEADER}\n{rows}".encode()

        async def looked(edits: object) -> httpx.Response:
            form = {"edicoes": json.dumps(edits)}
            return await client.post(
                "/api/imports/previa", data=form, files={"arquivo": ("a.csv", sheet)}, headers=AS_OPERATOR
            )

        (group,) = (await looked([])).json()["grupos"]
        assert (group["vezes"], group["linhas"], group["problema"]) == (3, [2, 3, 4], "31/02/2026 08:00 não existe")
        edit = {"planilha": group["planilha"], "coluna": group["coluna"], "linhas": [2, 3], "valor": "28/02/2026 08:00"}
        (left,) = (await looked([edit])).json()["grupos"]
        assert left["linhas"] == [4]
        refused = await looked([{"linha": 2}])
        assert (refused.status_code, refused.headers["content-type"]) == (422, PROBLEM)
        assert "edicoes" in refused.json()["detail"]


class TestEventsNobodyTook:
    @pytest.fixture
    async def failed(self, backend: Backend) -> str:
        outbox = backend.store.outbox()
        await outbox.ensure_indexes()
        await outbox.add("lane.stopped", {"model": "m"}, ["webhook"], once="once")
        delivery = await outbox.next_for("webhook")
        assert delivery is not None
        await outbox.give_up(delivery.event.id, "webhook", "HTTP 500 <b>")
        return delivery.event.id

    async def test_they_are_listed_and_sent_again_by_an_operator(
        self, client: httpx.AsyncClient, backend: Backend, failed: str
    ) -> None:
        [told] = (await client.get("/api/webhook/falhas", headers=AS_READER)).json()
        assert (told["id"], told["motivo"]) == (failed, "HTTP 500 <b>")
        assert (await client.post("/api/webhook/reenviar", headers=AS_READER)).status_code == 403

        again = await client.post("/api/webhook/reenviar", params={"evento": failed}, headers=AS_OPERATOR)

        assert again.json() == {"enfileirados": 1}
        assert (await client.get("/api/webhook/falhas", headers=AS_READER)).json() == []

    async def test_a_page_shows_them_and_its_button_sends_them_again(
        self, client: httpx.AsyncClient, backend: Backend, failed: str
    ) -> None:
        await client.post("/entrar", data={"chave": OPERATOR})
        assert "/eventos-sem-entrega" in (await client.get("/")).text
        page = (await client.get("/eventos-sem-entrega")).text
        assert failed in page
        assert "HTTP 500 &lt;b&gt;" in page

        sent = await client.post("/eventos-sem-entrega")

        assert (sent.status_code, sent.headers["location"]) == (303, "/eventos-sem-entrega")
        assert "Nenhum: tudo foi entregue" in (await client.get("/eventos-sem-entrega")).text
        assert await backend.store.outbox().next_for("webhook") is not None

    async def test_a_reader_sees_no_button_and_another_site_sends_nothing(
        self, client: httpx.AsyncClient, failed: str
    ) -> None:
        page = (await client.get("/eventos-sem-entrega", headers=AS_READER)).text
        assert failed in page
        assert "<button>" not in page
        assert (await client.post("/eventos-sem-entrega", headers=AS_READER)).status_code == 403
        assert (await client.get("/eventos-sem-entrega")).status_code == 401
