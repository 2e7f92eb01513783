"""Memory that a process keeps, in processes without torch."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from proxconnect._support import heap

FAULTS = """
import resource, runpy, sys
runpy.run_path(sys.argv[1])["keep_freed_memory"]()
def step():
    blocks = [bytearray(b"x") * (6 << 20) for _ in range(8)]
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
@pytest.mark.parametrize(("settings", "keeps"), [({}, True), ({"MALLOC_TRIM_THRESHOLD_": "65536"}, False)])
def test_a_second_step_takes_the_memory_of_the_first_unless_the_user_says_otherwise(settings, keeps):
    environment = {name: value for name, value in os.environ.items() if name not in heap._SETTINGS} | settings
    code = [sys.executable, "-S", "-c", FAULTS, Path(heap.__file__)]
    faults = subprocess.run(code, env=environment, capture_output=True, text=True, check=True).stdout
    assert (int(faults) < 1000) is keeps  # of about 12,000 pages
