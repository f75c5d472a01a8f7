"""The guides' own lines, run: Redis commands on a real Redis, our commands on real services, Python as it stands."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import NoPermissionError

from normalizer.simulation import embedded
from tests.acceptance.harness import Deployment, make_rows
from tests.unit.test_deploy import DOCS, fenced, text_of

ROOT = Path(__file__).resolve().parents[2]
SHEET = (
    "Id do agendamento;Nome do Paciente;Data/Hora Início Agendamento;Endereço Coleta;Documento(s) do Paciente;"
    "Onde mora\n"
    "a1;Paciente Um;10/10/2026 08:00:00;Av. Brasil, 100, Centro, Cascavel, PR;CPF: 11144477735;Rua A, 1\n"
)
# They run until they are stopped, ask for a file of the reader's, or are tried elsewhere (test_demo, test_cli, api).
NOT_HERE = ("status --watch", "worker", "demo", "serve", "normalize", "undo", "export-errors")
#: 0 is not to be expected of these here: no worker runs.
EXPECTED = {"health": 3}


def redis_commands() -> list[str]:
    lines = "\n".join(fenced(text_of(document)) for document in DOCS).splitlines()
    return sorted({line.partition("#")[0].strip() for line in lines if line.startswith("redis-cli")})


def our_commands() -> list[str]:
    pattern = re.compile(r"(?:^|`)normalizer ([a-z][^`\n#]*)", re.MULTILINE)
    found = {line for document in DOCS for line in pattern.findall(text_of(document))}
    return sorted({line.strip() for line in found if not line.startswith(NOT_HERE)})


def snippets() -> list[str]:
    blocks = (re.findall(r"```python\n(.*?)```", text_of(document), re.DOTALL) for document in DOCS)
    return [block for found in blocks for block in found if "TaskService" in block]


@pytest.mark.parametrize("line", redis_commands())
def test_redis_takes_the_commands_of_the_guides(line: str, redis_url: str) -> None:
    words = shlex.split(line.partition("|")[0])[1:]
    while words[0] in {"-h", "-p"}:
        del words[:2]

    with Redis.from_url(redis_url) as redis:
        redis.zadd("arq:queue:default", {"norm:1:x": 1})
        redis.set("arq:job:norm:1:x", b"{}")
        if words[0] == "--scan":
            assert words[1] == "--pattern"
            assert list(redis.scan_iter(match=words[2])) == [b"arq:job:norm:1:x"]
        else:
            assert redis.execute_command(*words) is not None


@pytest.mark.parametrize("line", our_commands())
def test_our_commands_of_the_guides_run(
    line: str, redis_url: str, mongo_url: str, database: str, tmp_path: Path
) -> None:
    (tmp_path / "agenda.csv").write_text(SHEET, encoding="utf-8")
    (tmp_path / "worker.log").write_text("ok\n", encoding="utf-8")
    words = shlex.split(line.replace("agenda.xlsx", "agenda.csv"))

    ran = run_python(
        ["-c", "from normalizer.cli import main; main()", *words], redis_url, mongo_url, database, tmp_path
    )

    assert ran.returncode == EXPECTED.get(words[0], 0), ran.stdout + ran.stderr


@pytest.mark.parametrize("code", snippets())
def test_python_of_the_guides_runs(code: str, redis_url: str, mongo_url: str, database: str, tmp_path: Path) -> None:
    if "await " in code:
        names = "appointment_id, appointment_ids = '1', ['2', '3']\n"
        body = "".join(f"    {line}\n" for line in (names + code).splitlines())
        code = f"import asyncio\nasync def main():\n{body}    await tasks.close()\nasyncio.run(main())\n"

    ran = run_python(["-W", "error::RuntimeWarning", "-c", code], redis_url, mongo_url, database, tmp_path)

    assert ran.returncode == 0, ran.stderr


def test_the_redis_user_of_the_guide_may_do_all_that_is_needed_and_no_more(
    tmp_path: Path,
    valkey: embedded.RedisService,
    redis_url: str,
    mongo_url: str,
    database: str,
    provider: embedded.ProviderService,
) -> None:
    guide = (ROOT / "docs/COOLIFY_REDIS.md").read_text(encoding="utf-8")
    found = re.search(r"ACL SETUSER (.*)", guide)
    assert found
    rules = found[1].replace("<SENHA>", "s3nha").split()
    rows = make_rows(30, hard=0.3)
    with Redis.from_url(valkey.url) as server:
        server.execute_command("ACL", "SETUSER", *rules)
        try:
            url = redis_url.replace("redis://", f"redis://{rules[0]}:s3nha@")
            deployment = Deployment(tmp_path, url, mongo_url, database, provider)
            deployment.redis = Redis.from_url(redis_url)  # the harness looks where the worker may not
            worker = deployment.start_ready_worker()
            deployment.put(rows)
            deployment.wait_until_all_ended()
            examined = deployment.cli("doctor", "--lgpd", "--offline")
            with Redis.from_url(url) as theirs, pytest.raises(NoPermissionError):
                theirs.flushall()
            log = worker.output()
            deployment.close()
        finally:
            server.execute_command("ACL", "DELUSER", rules[0])

    assert examined.returncode == 0, examined.stdout
    assert "NoPermission" not in log
    assert "away" not in log


def test_there_is_something_to_run() -> None:
    assert len(redis_commands()) >= 6
    assert len(our_commands()) >= 12
    assert len(snippets()) >= 2


def run_python(
    arguments: list[str], redis_url: str, mongo_url: str, database: str, directory: Path
) -> subprocess.CompletedProcess[str]:
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment |= {
        "PYTHONPATH": str(ROOT),
        "REDIS_URL": redis_url,
        "MONGODB_URL": mongo_url,
        "DATABASE_NAME": database,
    }
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
