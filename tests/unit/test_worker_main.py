"""What the composition root does before the first job; in a process of its own, for it changes the whole process."""

import json
import subprocess
import sys

_PROGRAM = """
import gc, json
from normalizer.domain.gazetteer import municipality_names
from normalizer.worker.main import spare_the_collector

before = gc.get_threshold()[0]
spare_the_collector()
tables = municipality_names()
walked = any(each is tables for each in gc.get_objects())
print(json.dumps({"frozen": gc.get_freeze_count(), "rarer": gc.get_threshold()[0] > before, "walked": walked}))
"""


def test_what_lives_as_long_as_a_worker_is_not_walked_for_garbage():
    ended = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    said = json.loads(ended.stdout)

    assert said.pop("frozen") > 10_000
    assert said == {"rarer": True, "walked": False}
