"""The API fuzzed by schemathesis against its own OpenAPI, then with damaged uploads and forged keys in its Redis.

For a stated time: no 500, no leak, nothing unpromised, and no worker dies.

`make fuzz SECONDS=300`. A real `normalizer serve` and a real worker on embedded services, which hold two invented
patients, as operator and as reader. Exit code 0: nothing was found.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

from normalizer.simulation import embedded
from tests.acceptance.fuzz_checks import PATIENTS, leaks
from tests.acceptance.fuzz_keys import forge, seen, unlocked, upload

ROOT = Path(__file__).resolve().parents[2]
KEYS = {"operator": "0f1e2d3c4b5a69788796a5b4c3d2e1f0", "reader": "7a6b5c4d3e2f10012f3e4d5c6b7a8990"}
#: Streams that never end.
ENDLESS = "/api/eventos"
# Matters of taste for an API whose rules no schema can say (a CPF's check digits, a city of its state); and wrong keys,
# of which the eleventh is answered by 429: `unlocked` asks every operation without one.
TASTE = "negative_data_rejection,positive_data_acceptance,ignored_auth"
_HEADER = "Id do agendamento;Nome da Marca;Nome do Paciente;Data Agendamento;Endereço Completo;CPF do Paciente;RG"


def main() -> int:
    """Fuzz; say what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.seconds} s")
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        for name in ("redis", "mongo"):
            (directory / name).mkdir()
        redis, mongo = embedded.start_valkey(directory / "redis"), embedded.start_mongo(directory / "mongo")
        try:
            problems = fuzz(redis.url, mongo.url, "fuzz", directory, seconds=options.seconds, seed=options.seed)
        finally:
            redis.kill()
            mongo.kill()
    print("\n".join(problems) or "nothing found")
    return 1 if problems else 0


def fuzz(redis_url: str, mongo_url: str, database: str, directory: Path, *, seconds: float, seed: int) -> list[str]:
    """What schemathesis, the server's own log and its health afterwards have to say."""
    environment = {
        "REDIS_URL": redis_url,
        "MONGODB_URL": mongo_url,
        "DATABASE_NAME": database,
        "ENVIRONMENT": "production",
        "API_KEYS": KEYS["operator"],
        "API_KEYS_READONLY": KEYS["reader"],
    }
    problems = []
    with (
        embedded.spawn_worker(environment, log=directory / "worker.log") as worker,
        serving(environment, directory / "serve.log") as (url, server),
    ):
        import_sheet(url)
        problems += unlocked(url, KEYS["reader"])
        for role, share in (("operator", 0.4), ("reader", 0.2)):
            ran = schemathesis(url, role, directory, seconds=max(1, round(seconds * share)), seed=seed)
            print(ran.stdout[-6_000:] if ran.returncode else ran.stdout[-600:])
            if ran.returncode:
                problems.append(f"as {role}: schemathesis ended with {ran.returncode}")
        problems += upload(url, KEYS["operator"], seconds=seconds * 0.2, seed=seed)

        def alive() -> list[str]:
            return [*seen(url, KEYS["operator"]), *([] if worker.running else [f"the worker died: {worker.tail()}"])]

        problems += forge(redis_url, seconds=seconds * 0.2, seed=seed, alive=alive)
        with urllib.request.urlopen(f"{url}/health/live", timeout=30) as answer:  # noqa: S310
            if answer.status != 200:
                problems.append("the server no longer answers")
        log = server.output()
    if failed := [line for line in log.splitlines() if "api.failed" in line]:
        problems.append(f"the server failed {len(failed)} times: {failed[0]}")
    if found := leaks(log):
        problems.append(f"{len(found)} data of a patient in the server's log")
    return problems


def schemathesis(url: str, role: str, directory: Path, *, seconds: int, seed: int) -> subprocess.CompletedProcess[str]:
    """Run it against the document the server gives."""
    command = [str(Path(sys.executable).parent / "schemathesis"), "run", f"{url}/openapi.json"]
    command += ["--max-time", str(seconds), "--seed", str(seed), "--phases", "examples,coverage,fuzzing"]
    command += ["--checks", "all", "--exclude-checks", TASTE, "--exclude-path", ENDLESS, "--continue-on-failure"]
    command += ["--header", f"X-API-Key:{KEYS[role]}", "--request-timeout", "60", "--suppress-health-check", "all"]
    command += ["--warnings", "off", "--no-color"]
    given = {"SCHEMATHESIS_HOOKS": "tests.acceptance.fuzz_checks", "FUZZ_ROLE": role, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=directory, env=os.environ | given, capture_output=True, text=True, check=False)


@contextlib.contextmanager
def serving(environment: Mapping[str, str], log: Path) -> Iterator[tuple[str, embedded.Child]]:
    """`normalizer serve` on a free port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["-c", "from normalizer.cli import main; main()", "serve", "--port", str(port)]
    with embedded.spawn_python("api", command, environment, log=log) as child:
        while not (_listens(port) and _is_ready(port)):
            if not child.running:
                raise RuntimeError(child.tail())
        yield f"http://127.0.0.1:{port}", child


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _is_ready(port: int) -> bool:
    """It comes up while Redis and MongoDB are away, and answers 503 until they are there."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=60) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def import_sheet(url: str) -> None:
    """Some appointments of the two patients, one of them with a row to correct."""
    rows = [
        f"f{number};Clínica Um;{name};{day};Av. Brasil, {number}, Centro, Cascavel, PR;{cpf};{rg}"
        for number, day in enumerate(("10/10/2026", "11/10/2026", "32/13/2026"))
        for name, cpf, rg in PATIENTS[number % 2 :]
    ]
    body = "\n".join([_HEADER, *rows]).encode()
    headers = {"X-API-Key": KEYS["operator"]}
    asked = urllib.request.Request(f"{url}/api/imports?nome=agenda.csv", body, headers)  # noqa: S310
    urllib.request.urlopen(asked, timeout=60).close()  # noqa: S310


if __name__ == "__main__":
    sys.exit(main())
