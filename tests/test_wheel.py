"""The wheel where nothing compiles."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_a_compiler_that_fails_gives_a_pure_wheel(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--quiet", "-w", str(tmp_path)]
    subprocess.run([*build, str(ROOT)], check=True, timeout=300, env=os.environ | {"CXX": "/bin/false"})
    (wheel,) = tmp_path.iterdir()
    assert wheel.name.endswith("-py3-none-any.whl")
    files = zipfile.ZipFile(wheel).namelist()
    assert "proxconnect/kernels/library.py" in files
    assert not [name for name in files if name.endswith((".so", ".dylib", ".dll"))]
