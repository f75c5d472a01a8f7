"""Every command as a user runs it: arguments in; exit code, stdout and stderr out."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE
from typing import Any, cast

import httpx2
import pytest
import typer
import xlsxwriter
from redis import Redis

from normalizer import __version__, cli
from normalizer.queue.replicas import Replica, write_beat
from tests.integration.command import Ran

HEADER = "Id do agendamento;Nome do Paciente;Data/Hora Início Agendamento;Endereço Coleta;Documento(s) do Paciente"
SHEET = f"""{HEADER}
a1;Paciente Um;10/10/2026 08:00:00;Av. Brasil, 100, Centro, Cascavel, PR;CPF: 11144477735
a2;Paciente Dois;10/10/2026 08:10:00;Rua Sete de Setembro, 20, Centro, Blumenau, SC;RG: 123456789
"""


EASY = "Av. Brasil, 100, Centro, Cascavel - PR"
HARD = "Rua das Acácias 12, Jardim Tal, Cidade Que Não Existe"


def read_until(terminal: int, wanted: str | None) -> str:
    """What a terminal shows up to these words, or up to its end."""
    shown = ""
    while wanted is None or wanted not in shown:
        try:
            more = os.read(terminal, 65_536)
        except OSError:  # Linux says so where nobody writes any more
            more = b""
        if not more:
            assert wanted is None, shown
            break
        shown += more.decode(errors="replace")
    return shown


def lines(*rows: Any) -> bytes:
    return b"\n".join(row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows)


def answers(ran: Ran) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ran.out.splitlines()]


class TestNormalize:
    def test_documents_come_out_in_order_with_origin_and_reason(self, run: Callable[..., Ran]) -> None:
        given = lines({"id": 2, "text": "CPF: 11144477735"}, {"id": "b", "text": "CPF: 11111111112"}, {"id": 3})

        ran = run("normalize", "document", "-", "--offline", stdin=given)

        first, second, third = answers(ran)
        assert ran.code == 0
        assert (first["id"], first["result"]["cpf"], first["origem"]) == (2, "11144477735", "regras")
        assert (second["id"], second["result"], second["motivo"]) == ("b", None, "CPF com dígito inválido")
        assert (third["id"], third["result"], third["motivo"]) == (3, None, "documento não informado")

    def test_a_file_of_addresses_needs_no_service(self, run: Callable[..., Ran], tmp_path: Path) -> None:
        file = tmp_path / "in.jsonl"
        file.write_bytes(lines({"id": 1, "text": "Av. Brasil, 100, Centro, Cascavel - PR"}))

        ran = run("normalize", "address", str(file), "--offline")

        assert answers(ran)[0]["result"]["rua"] == "Avenida Brasil"

    def test_a_bad_line_is_named_and_costs_no_other(self, run: Callable[..., Ran]) -> None:
        given = lines({"id": 1, "text": "RG 12.345.678-9"}, b"{broken", {"id": 3, "text": 7}, {"id": 4, "text": ""})

        ran = run("normalize", "document", "--offline", stdin=given)

        assert ran.code == 1
        assert [answer["id"] for answer in answers(ran)] == [1, None, 3, 4]
        assert answers(ran)[0]["result"]["rg"] == "123456789"
        assert "linha 2" in ran.err
        assert "linha 3" in ran.err

    def test_without_offline_the_model_is_asked(
        self,
        run: Callable[..., Ran],
        start_provider: Callable[..., Any],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        provider = start_provider({})  # knows nothing: nothing may be stored
        monkeypatch.setenv("OPENAI_API_KEY", "k")
        monkeypatch.setenv("OPENAI_BASE_URL", provider.url)
        text = "Rua das Acácias 12, Jardim Tal, Cidade Que Não Existe"

        ran = run("normalize", "address", stdin=lines({"id": 1, "text": text}))

        assert ran.code == 0
        assert answers(ran) == [{"id": 1, "result": None, "origem": "llm", "motivo": "modelo não soube responder"}]

    def test_resume_goes_on_after_what_the_output_has(self, run: Callable[..., Ran], tmp_path: Path) -> None:
        file, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
        rows = [{"id": number, "text": f"Av. Brasil, {number}, Centro, Cascavel - PR"} for number in range(5)]
        file.write_bytes(lines(*rows))
        assert run("normalize", "address", str(file), "--offline", "--resume", str(out)).code == 0
        whole = out.read_bytes()
        cut = whole[: whole.index(b"\n", 200) + 20]
        assert 1 <= cut.count(b"\n") < 4
        out.write_bytes(cut)

        ran = run("normalize", "address", str(file), "--offline", "--resume", str(out))

        assert (ran.code, ran.out) == (0, "")
        assert out.read_bytes() == whole

    def test_resume_refuses_the_output_of_another_input(self, run: Callable[..., Ran], tmp_path: Path) -> None:
        out = tmp_path / "out.jsonl"
        out.write_bytes(lines({"id": "other", "result": None}) + b"\n")

        ran = run("normalize", "address", "--offline", "--resume", str(out), stdin=lines({"id": 1, "text": "x"}))

        assert ran.code == 1
        assert "outra entrada" in ran.err

    @pytest.mark.parametrize("presses", [1, 2])
    def test_lines_come_out_as_they_are_known_and_ctrl_c_keeps_them(
        self, start_provider: Callable[..., Any], tmp_path: Path, presses: int
    ) -> None:
        """On a terminal, while a call is under way; however often it is pressed."""
        provider = start_provider({})
        faults = [{"kind": "hang", "times": 1_000, "seconds": 60}]
        httpx2.post(f"{provider.root_url}/faults", json=faults).raise_for_status()
        file = tmp_path / "in.jsonl"
        file.write_bytes(lines({"id": 1, "text": EASY}, {"id": 2, "text": EASY}, {"id": 3, "text": HARD}))
        command = [sys.executable, "-c", "from normalizer.cli import main; main()", "normalize", "address", str(file)]
        given = os.environ | {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": provider.url, "TERM": "xterm"}
        ours, terminal = os.openpty()

        with subprocess.Popen(command, stdout=PIPE, stderr=terminal, env=given, cwd=tmp_path) as process:
            os.close(terminal)
            assert process.stdout is not None
            first = [json.loads(process.stdout.readline()) for _ in range(2)]
            said = read_until(ours, "2/3")  # on the bar
            for _ in range(presses):
                process.send_signal(signal.SIGINT)
            rest = process.stdout.read()
            said += read_until(ours, None)
            process.wait(timeout=30)
        os.close(ours)

        assert [answer["id"] for answer in first] == [1, 2]
        assert (process.returncode in {130, -signal.SIGINT}, rest) == (True, b"")
        assert "Traceback" not in said
        assert presses > 1 or "2 de 3 linhas escritas; com --resume SAÍDA continua daí." in said

    def test_resume_asks_again_what_was_not_answered_and_pays_nothing_twice(
        self,
        run: Callable[..., Ran],
        start_provider: Callable[..., Any],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        provider = start_provider({HARD: None})
        httpx2.post(
            f"{provider.root_url}/faults", json=[{"kind": "status", "status": 401, "times": 9}]
        ).raise_for_status()
        monkeypatch.setenv("OPENAI_API_KEY", "k")
        monkeypatch.setenv("OPENAI_BASE_URL", provider.url)
        file, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
        file.write_bytes(b"\n" + lines({"id": 1, "text": EASY}, {"id": 2, "text": HARD}, {"id": 3, "text": EASY}))
        arguments = ("normalize", "address", str(file), "--resume", str(out))

        refused = run(*arguments)
        first = out.read_bytes().splitlines()
        httpx2.post(f"{provider.root_url}/faults", json=[]).raise_for_status()
        answered = run(*arguments)
        asked = httpx2.get(f"{provider.root_url}/stats").json()["records"]
        again = run(*arguments)

        assert (refused.code, answered.code, again.code) == (1, 0, 0)
        assert "linha 3" in refused.err
        assert json.loads(first[1])["motivo"] == "a IA não respondeu"
        second = out.read_bytes().splitlines()
        assert [second[0], second[2]] == [first[0], first[2]]
        assert json.loads(second[1])["motivo"] == "modelo não soube responder"
        assert httpx2.get(f"{provider.root_url}/stats").json()["records"] == asked

    def test_an_interrupted_resume_loses_no_answer_it_had(
        self, start_provider: Callable[..., Any], tmp_path: Path
    ) -> None:
        provider = start_provider({})
        faults = [{"kind": "hang", "times": 1_000, "seconds": 60}]
        httpx2.post(f"{provider.root_url}/faults", json=faults).raise_for_status()
        file, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
        file.write_bytes(lines({"id": 1, "text": HARD}, {"id": 2, "text": EASY}))
        had = lines({"id": 1, "motivo": "a IA não respondeu"}, {"id": 2, "motivo": None}) + b"\n"
        out.write_bytes(had)
        command = [sys.executable, "-c", "from normalizer.cli import main; main()"]
        command += ["normalize", "address", str(file), "--resume", str(out)]
        given = os.environ | {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": provider.url}

        with subprocess.Popen(command, stderr=PIPE, env=given, cwd=tmp_path) as process:
            assert process.stderr is not None
            assert "1 de 2 linhas respondidas" in process.stderr.readline().decode()
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=30)

        assert [json.loads(line)["id"] for line in out.read_bytes().splitlines()] == [1, 2]
        assert out.read_bytes().splitlines()[1] == had.splitlines()[1]

    def test_a_model_that_refuses_everything_is_not_said_to_know_no_answer(
        self, run: Callable[..., Ran], start_provider: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        provider = start_provider({})
        faults = [{"kind": "status", "status": 400, "times": 1_000, "message": "x is not a valid model ID"}]
        httpx2.post(f"{provider.root_url}/faults", json=faults).raise_for_status()
        monkeypatch.setenv("OPENAI_API_KEY", "k")
        monkeypatch.setenv("OPENAI_BASE_URL", provider.url)
        text = "Rua das Acácias 12, Jardim Tal, Cidade Que Não Existe"

        ran = run("normalize", "address", stdin=lines({"id": 1, "text": text}))

        assert ran.code == 1
        assert answers(ran) == [{"id": 1, "result": None, "origem": None, "motivo": "a IA não respondeu"}]
        assert "x is not a valid model ID" in ran.err

    def test_an_unknown_kind_is_a_usage_error(self, run: Callable[..., Ran]) -> None:
        ran = run("normalize", "phone")

        assert ran.code == 2
        assert "address" in ran.err

    def test_a_missing_file_is_one_sentence(self, run: Callable[..., Ran]) -> None:
        ran = run("normalize", "address", "nowhere.jsonl", "--offline")

        assert ran.code == 1
        assert "nowhere.jsonl" in ran.err
        assert "nenhum arquivo nesse caminho" in ran.err
        assert "Traceback" not in ran.err


@pytest.mark.usefixtures("services")
class TestImport:
    def test_stores_enqueues_and_changes_nothing_the_second_time(
        self, run: Callable[..., Ran], tmp_path: Path, mongo: Any
    ) -> None:
        file = tmp_path / "agenda.csv"
        file.write_text(SHEET, encoding="utf-8")

        dry, first, second = (run("import", str(file), "--json", *extra) for extra in (["--dry-run"], [], []))

        assert (dry.json["new"], first.json["new"], second.json["new"]) == (2, 2, 0)
        assert second.json["equal"] == 2
        assert mongo["appointments"].count_documents({"normalizacao.status": "pendente"}) == 2
        assert run("status", "--json").json["na_fila"] == 2

    def test_a_dry_run_writes_nothing(self, run: Callable[..., Ran], tmp_path: Path, mongo: Any) -> None:
        file = tmp_path / "agenda.csv"
        file.write_text(SHEET, encoding="utf-8")

        ran = run("import", str(file), "--dry-run")

        assert ran.code == 0
        assert "2 novas" in ran.out
        assert mongo["appointments"].count_documents({}) == 0

    @pytest.mark.parametrize("content", [b"", b"not a sheet at all", b"%PDF-1.7\nwhatever"])
    def test_a_file_that_is_no_sheet_is_one_sentence_and_leaves_nothing(
        self, run: Callable[..., Ran], tmp_path: Path, mongo: Any, content: bytes
    ) -> None:
        file = tmp_path / "agenda.xlsx"
        file.write_bytes(content)

        ran = run("import", str(file))

        assert ran.code == 1
        assert "agenda.xlsx" in ran.err
        assert "Traceback" not in ran.err
        assert mongo["appointments"].count_documents({}) == 0

    def test_a_title_explained_once_is_understood_in_later_imports(
        self, run: Callable[..., Ran], tmp_path: Path, mongo: Any
    ) -> None:
        file = tmp_path / "agenda.csv"
        file.write_text(
            "Id do agendamento;Moradia;CPF\nz1;Av. Brasil, 100, Cascavel, PR;11144477735\n", encoding="utf-8"
        )
        said = ("--map", "Moradia=endereco_completo")

        unread, slip = run("import", str(file), "--dry-run"), run("import", str(file), "--map", "Moradia=morada")
        estimated = run("estimate", str(file), *said, "--json")
        told, again = run("import", str(file), *said, "--json"), run("import", str(file), "--json")

        assert "“Moradia”" in unread.err
        assert "--map" in unread.err
        assert (slip.code, "endereco_completo" in slip.err) == (cli.USAGE, True)
        assert estimated.json["enderecos_distintos"] == 1
        assert told.json["told_columns"] == again.json["told_columns"] == {"Moradia": "endereco_completo"}
        assert (told.json["new"], again.json["equal"]) == (1, 1)
        assert mongo["appointments"].find_one()["endereco_completo"] == "Av. Brasil, 100, Cascavel, PR"
        assert run("estimate", str(file), "--json").json["enderecos_distintos"] == 1

    def test_sheets_that_were_not_read_are_named(self, run: Callable[..., Ran], tmp_path: Path) -> None:
        with xlsxwriter.Workbook(tmp_path / "agenda.xlsx") as book:
            for name in ("Agenda", "Antiga"):
                sheet = book.add_worksheet(name)
                for number, line in enumerate(SHEET.splitlines()):
                    sheet.write_row(number, 0, line.split(";"))
            sheet.hide()
            book.add_worksheet("Leia-me").write(0, 0, "instruções")

        ran = run("import", "agenda.xlsx")

        assert "2 novas" in ran.out
        assert "oculta “Antiga”" in ran.err
        assert "“Leia-me”" in ran.err


@pytest.mark.usefixtures("services")
class TestManners:
    def test_the_version_and_the_short_help(self, run: Callable[..., Ran]) -> None:
        assert (run("--version").code, run("--version").out) == (0, f"normalizer {__version__}\n")
        assert "Mostra esta ajuda" in run("import", "-h").out

    def test_the_help_waits_for_no_client_of_a_service(self) -> None:
        told = "import sys, normalizer.cli; print({'pymongo', 'redis', 'openai', 'fastapi'} & sys.modules.keys())"
        assert subprocess.check_output([sys.executable, "-c", told], text=True) == "set()\n"

    def test_steering_and_health_as_json(self, run: Callable[..., Ran]) -> None:
        assert (run("pause", "--json").json, run("resume", "--json").json) == (
            {"estado": "paused"},
            {"estado": "running"},
        )
        health = run("health", "--json")
        assert (health.code, health.json["ok"]) == (cli.NOT_READY, False)
        assert "worker" in health.json["problema"]

    def test_imports_are_listed_with_ids_and_files(self, run: Callable[..., Ran], tmp_path: Path) -> None:
        (tmp_path / "agenda.csv").write_text(SHEET, encoding="utf-8")
        import_id = run("import", str(tmp_path / "agenda.csv"), "--json").json["import_id"]

        people, machine = run("imports"), run("imports", "--json")

        assert import_id in people.out
        assert [(one["id"], one["arquivo"], one["linhas"]) for one in machine.json["importacoes"]] == [
            (import_id, "agenda.csv", 2)
        ]

    def test_equal_problems_are_told_once_with_their_lines(self, run: Callable[..., Ran], tmp_path: Path) -> None:
        rows = [f"a{number};Paciente;31/02/2026 08:00:00;Rua A, 1, Centro, Itu, SP;RG 1" for number in range(300)]
        (tmp_path / "agenda.csv").write_text("\n".join([HEADER, *rows]), encoding="utf-8")

        ran = run("import", str(tmp_path / "agenda.csv"), "--dry-run")

        (told,) = [line for line in ran.err.splitlines() if "300 ×" in line]
        assert "(linhas 2, 3, 4, 5, 6 …)" in told

    def test_a_slip_in_a_mapping_is_one_of_usage(self, run: Callable[..., Ran], tmp_path: Path) -> None:
        (tmp_path / "agenda.csv").write_text(SHEET, encoding="utf-8")
        ran = run("import", str(tmp_path / "agenda.csv"), "--map", "Onde mora=lugar nenhum")
        assert (ran.code, "--map" in ran.err) == (cli.USAGE, True)

    def test_a_title_gives_the_terminal_no_orders(self, run: Callable[..., Ran], tmp_path: Path) -> None:
        (tmp_path / "agenda.csv").write_text(SHEET.replace("Nome do", "\x1b]0;dono\x07;Nome do", 1), encoding="utf-8")
        ran = run("import", str(tmp_path / "agenda.csv"), "--dry-run")
        assert "\x1b" not in ran.err + ran.out

    def test_what_is_stored_gives_the_terminal_no_orders(
        self, run: Callable[..., Ran], mongo: Any, redis_url: str
    ) -> None:
        order = "\x1b]0;dono\x07"
        failed = {"status": "falhou", "erro": f"caiu{order}"}
        mongo.appointments.insert_one({"id": order, "normalizacao": failed, "normalization_status": "failed"})
        with Redis.from_url(redis_url) as client:
            client.zadd(f"arq:queue:{order}", {"a": 1})
        ran = run("status")
        assert "caiu" in ran.out
        assert not {"\x1b", "\x07"} & set(ran.out + ran.err)


class TestSlips:
    """What is wrong with the command itself is told in Portuguese, with exit code 2 and without a trace."""

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("importar",), "O comando importar não existe. Quis dizer import, imports?"),
            (("cache", "foo"), "O comando foo não existe."),
            (("import",), "Falta o argumento 'file'."),
            (("import", "x", "--mapa", "y"), "A opção --mapa não existe. Quis dizer --map?"),
            (("import", "a", "b", "c"), "Argumentos a mais: b c."),
            (("import", "x", "--dry-run=1"), "A opção --dry-run não leva valor."),
            (("serve", "--port"), "A opção --port pede um valor."),
            (("serve", "--port", "abc"), "'--port': esperado um número; encontrado 'abc'."),
            (("demo", "--rows", "0"), "'--rows': esperado um número no mínimo 1; encontrado '0'."),
            (("normalize", "foo"), "esperado address ou document; encontrado 'foo'."),
            (("cache", "purge"), "confirme com --yes"),
        ],
    )
    def test_a_slip(self, run: Callable[..., Ran], arguments: tuple[str, ...], said: str) -> None:
        ran = run(*arguments)

        assert ran.code == cli.USAGE
        assert said in ran.err
        assert not re.search("Error|Usage|Missing|No such|Invalid|Traceback|argument ", ran.out + ran.err)

    @pytest.mark.parametrize(
        "arguments", [(), ("--help",), ("import", "--help"), ("cache",), ("cache", "purge", "--help")]
    )
    def test_help_is_in_portuguese(self, run: Callable[..., Ran], arguments: tuple[str, ...]) -> None:
        ran = run(*arguments)

        assert ran.code == (cli.OK if "--help" in arguments else cli.USAGE)
        told = ran.out + ran.err
        assert "Uso: normalizer" in told
        assert "Mostra esta ajuda e sai." in told
        assert not re.search("Usage|Options|Commands|Arguments|required|Show |Install |COMMAND|default:", told)


@pytest.mark.parametrize(("typed", "offered"), [("est", "estimate"), ("import --m", "--map"), ("cache p", "purge")])
def test_tab_completes_commands_and_options(
    run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, typed: str, offered: str
) -> None:
    monkeypatch.setenv("_NORMALIZER_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"normalizer {typed}")
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split())))

    ran = run()

    assert (ran.code, ran.out.split()) == (cli.OK, [offered])


class TestServicesAway:
    def test_an_unreachable_redis_is_not_ready(
        self, run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mongo_url: str
    ) -> None:
        monkeypatch.setenv("REDIS_URL", "redis://:s3cret@127.0.0.1:1")
        monkeypatch.setenv("MONGODB_URL", mongo_url)
        (tmp_path / "a.csv").write_text(SHEET, encoding="utf-8")

        ran = run("import", "a.csv")

        assert ran.code == cli.NOT_READY
        assert "127.0.0.1:1" in ran.err
        assert "s3cret" not in ran.err

    def test_an_unreachable_mongodb_is_not_ready(
        self, run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, redis_url: str
    ) -> None:
        monkeypatch.setenv("REDIS_URL", redis_url)
        monkeypatch.setenv("MONGODB_URL", "mongodb://user:s3cret@127.0.0.1:1/")

        ran = run("status")

        assert ran.code == cli.NOT_READY
        assert "MongoDB" in ran.err
        assert "s3cret" not in ran.err

    @pytest.mark.parametrize(
        ("name", "value"),
        [("REDIS_URL", "clinic-redis:6379"), ("MONGODB_URL", "nonsense"), ("ARQ_MAX_JOBS", "abc")],
    )
    def test_a_wrong_setting_is_usage(
        self, run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, services: str, name: str, value: str
    ) -> None:
        monkeypatch.setenv(name, value)

        ran = run("status")

        assert ran.code == cli.USAGE
        assert name in ran.err
        assert "Traceback" not in ran.err

    def test_the_worker_says_it_in_the_same_words(
        self, run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ARQ_MAX_JOBS", "abc")

        ran = run("worker")

        assert ran.code == cli.USAGE
        assert "ARQ_MAX_JOBS: esperado um número; encontrado 'abc'" in ran.err

    @pytest.mark.parametrize("url", ["redis://clinic-redis:abc", "redis://:s3cret@clinic-redis:99999", "redis://[::1"])
    def test_the_worker_announces_no_redis_it_cannot_read(
        self, run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, url: str
    ) -> None:
        monkeypatch.setenv("REDIS_URL", url)

        ran = run("worker")

        assert (ran.code, ran.out) == (cli.USAGE, "")
        assert "REDIS_URL" in ran.err
        assert "s3cret" not in ran.err
        assert "Traceback" not in ran.err


@pytest.mark.usefixtures("services")
class TestSteering:
    def test_pause_drain_and_resume_show_in_status(self, run: Callable[..., Ran]) -> None:
        seen = []
        for order in ("pause", "drain", "resume"):
            assert run(order).code == 0
            seen.append(run("status", "--json").json["estado"])

        assert seen == ["paused", "draining", "running"]

    def test_retry_puts_back_what_failed_or_waits_in_review(self, run: Callable[..., Ran], mongo: Any) -> None:
        for name, status in (("a", "falhou"), ("b", "revisar"), ("c", "concluido")):
            mongo["appointments"].insert_one({"_id": name, "normalizacao": {"status": status}})

        failed, review = run("retry", "--json"), run("retry", "--review", "--json")

        assert (failed.json, review.json) == ({"enfileirados": 1}, {"enfileirados": 1})
        assert mongo["appointments"].count_documents({"normalizacao.status": "pendente"}) == 2
        assert run("status", "--json").json["na_fila"] == 2

    def test_status_shows_what_the_model_lane_spent_and_why_it_stands(
        self, run: Callable[..., Ran], services: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DAILY_BUDGET_USD", "0.5")
        day = time.strftime("%Y-%m-%d", time.gmtime())
        with Redis.from_url(services) as client:
            client.hset(f"norm:usage:{day}", mapping={"calls": 3, "tokens_in": 900, "tokens_out": 90, "usd": "0.25"})
            client.hset("norm:limit:api.openai.com:gpt-6-luna", "refused", "conta sem saldo (402).")

        without = run("status", "--json")
        monkeypatch.setenv("OPENAI_API_KEY", "k")
        machine, people = run("status", "--json"), run("status")

        assert without.json["ia"]["parada_por"].startswith("sem OPENAI_API_KEY")
        assert machine.json["ia"]["parada_por"] == "conta sem saldo (402)."
        assert machine.json["ia"]["hoje"]["usd"] == machine.json["ia"]["mes"]["usd"] == 0.25
        assert "parada: conta sem saldo (402)." in people.out
        assert "3 chamadas, 990 tokens, US$ 0,2500 (50% de DAILY_BUDGET_USD=0.5)" in people.out

    def test_status_shows_reasons_to_people(self, run: Callable[..., Ran], mongo: Any) -> None:
        mongo["appointments"].insert_one(
            {
                "_id": "b",
                "normalizacao": {"status": "revisar", "endereco": {"origem": "regras", "motivo": "número ambíguo"}},
            }
        )

        assert "endereco: número ambíguo" in run("status").out


class TestHealth:
    async def beat(self, redis: Any, host: str, *, lag_ms: int = 0) -> None:
        now = int(time.time() * 1000)
        counts = {"groups": 0, "jobs": 0, "complete": 0, "failed": 0, "retried": 0}
        replica = Replica(
            **counts,
            worker_id=f"{host}:1:x",
            host=host,
            pid=1,
            version="1",
            state="running",
            started_at_ms=now,
            beat_at_ms=now,
            last_claim_at_ms=None,
            last_error=None,
            loop_lag_ms=lag_ms,
        )
        await write_beat(redis, replica)

    def health(self, run: Callable[..., Ran]) -> Ran:
        # The command runs a loop of its own, as in a container.
        import concurrent.futures

        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            return pool.submit(run, "health").result()

    async def test_a_beating_worker_of_this_host_is_healthy(
        self, run: Callable[..., Ran], services: str, redis: Any
    ) -> None:
        await self.beat(redis, socket.gethostname())

        assert self.health(run).code == 0

    async def test_another_container_does_not_speak_for_this_one(
        self, run: Callable[..., Ran], services: str, redis: Any
    ) -> None:
        await self.beat(redis, "elsewhere")

        ran = self.health(run)

        assert ran.code == cli.NOT_READY
        assert socket.gethostname() in ran.err

    async def test_a_hung_loop_is_not_healthy(self, run: Callable[..., Ran], services: str, redis: Any) -> None:
        await self.beat(redis, socket.gethostname(), lag_ms=60_000)

        assert self.health(run).code == cli.NOT_READY


def test_help_lists_the_commands(run: Callable[..., Ran]) -> None:
    ran = run("--help")

    assert ran.code == 0
    for command in (
        "demo",
        "import",
        "normalize",
        "estimate",
        "status",
        "health",
        "retry",
        "pause",
        "drain",
        "resume",
        "worker",
    ):
        assert command in ran.out


def test_every_command_that_ends_takes_json() -> None:
    """Those that serve do not end."""
    leaves: dict[str, Any] = {}
    open_groups = [cast("Any", typer.main.get_command(cli.app))]
    while open_groups:
        for name, command in open_groups.pop().commands.items():
            if hasattr(command, "commands"):
                open_groups.append(command)
            else:
                leaves[name] = {option for parameter in command.params for option in parameter.opts}
    assert {name for name, options in leaves.items() if "--json" not in options} == {"serve", "worker"}
