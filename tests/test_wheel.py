"""The wheel where nothing compiles, and the same one twice; `make wheel-twice` is about one that is compiled."""

import os
import shutil
import subprocess
import sys
import time
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_a_compiler_that_fails_gives_a_pure_wheel(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--quiet", "-w", str(tmp_path)]
    subprocess.run([*build, str(ROOT)], check=True, timeout=300, env=os.environ | {"CXX": "/bin/false"})
    (wheel,) = tmp_path.iterdir()
    assert wheel.name.endswith("-py3-none-any.whl")
    files = zipfile.ZipFile(wheel).namelist()
    assert "proxconnect/kernels/library.py" in files
    assert not [name for name in files if name.endswith((".so", ".dylib", ".dll"))]


def made(folder: Path) -> dict[str, str]:
    """The digests of a wheel and a source archive of what git knows, made in a folder that is copied for it."""
    source, out = folder / "source", folder / "out"
    known = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in known.decode().strip("\0").split("\0"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    code = "from scikit_build_core import build; build.build_sdist('../out'); build.build_wheel('../out')"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, timeout=300, capture_output=True,
                   env=os.environ | {"CXX": "/bin/false"})  # fmt: skip
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in out.iterdir()}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="git says what is to be copied")
def test_a_wheel_and_a_source_archive_are_the_same_from_two_folders_at_two_times(tmp_path: Path) -> None:
    one = made(tmp_path / "one")
    time.sleep(2)  # a zip counts time in steps of two seconds
    assert made(tmp_path / "another" / "folder") == one
    assert len(one) == 2
