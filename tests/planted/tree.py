"""A copy of one commit with built kernels, in which faults are planted one at a time."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
INSIDE = Path(__file__).parent / "inside"
CPP = "tests/kernels/test_in_cpp.py"
KERNELS = "src/proxconnect/kernels/kernels.so"


class BuildError(RuntimeError):
    """The kernels do not compile."""


@dataclass(frozen=True)
class Report:
    """What pytest did: its exit status, None if it ran out of time, and the tests that began and that failed."""

    status: int | None
    began: list[str]
    failed: list[str]


class Tree:
    """The sources of a commit below build/planted/, beside a spare copy that is never changed.

    Copies keep the times of files, so that a build compiles only what a fault changed.
    """

    def __init__(self, commit: str) -> None:
        self.commit = _output("git", "rev-parse", "--short=7", f"{commit}^{{commit}}").strip()
        self.place = ROOT / "build" / "planted" / self.commit
        self.path, self.spare = self.place / "tree", self.place / "spare"

    def prepare(self) -> None:
        """Check out the commit and build its kernels, unless an earlier run did."""
        if self.spare.exists():
            return
        shutil.rmtree(self.place, ignore_errors=True)
        self.path.mkdir(parents=True)
        archive = self.place / "archive.tar"
        _output("git", "archive", "--output", str(archive), self.commit)
        shutil.unpack_archive(archive, self.path, filter="data")
        archive.unlink()
        _output("cmake", "-S", str(self.path), "-B", str(self.path / "build"), "-DCMAKE_BUILD_TYPE=Release")
        self.build()
        self._require_own_package()
        if (self.path / CPP).exists():  # builds programs that later runs build in part
            self.run([CPP], limit=1800)
        unfinished = self.place / "unfinished"
        shutil.copytree(self.path, unfinished, symlinks=True)
        unfinished.rename(self.spare)

    def restore(self) -> None:
        """Undo every change."""
        shutil.rmtree(self.path, ignore_errors=True)
        shutil.copytree(self.spare, self.path, symlinks=True)

    def build(self) -> None:
        """Compile what changed and put the library where the package looks for it."""
        command = ["cmake", "--build", "build", "--target", "proxconnect_kernels"]
        built = subprocess.run(command, cwd=self.path, capture_output=True, text=True)
        if built.returncode != 0:
            raise BuildError(built.stderr[-2000:])
        shutil.copy(self.path / "build" / "kernels.so", self.path / KERNELS)

    def run(self, tests: Iterable[str], *, without: Iterable[str] = (), stops: bool = True, limit: float) -> Report:
        """Run tests, files or single ones, in their order; stop at the first failure if `stops`."""
        log = self.place / "report.txt"
        log.write_text("")
        options = ["-q", "-n0", "-p", "no:cacheprovider", "-p", "planted_report", "--tb=no", *["-x"] * stops]
        options += [f"--deselect={test}" for test in without]
        command = [sys.executable, "-m", "pytest", *options, *tests]
        environment = self._environment() | {"PLANTED_REPORT": str(log)}
        status = _status(command, self.path, environment, limit)
        lines = [line.split(" ", 1) for line in log.read_text().splitlines()]
        began, failed = ([name for word, name in lines if word == chosen] for chosen in ("began", "failed"))
        return Report(status, began, failed)

    def _environment(self) -> dict[str, str]:
        return os.environ | {"PYTHONPATH": os.pathsep.join([str(INSIDE), str(self.path / "src")])}

    def _require_own_package(self) -> None:
        question = (
            "import proxconnect; from proxconnect import kernels; print(proxconnect.__file__, kernels.is_built())"
        )
        command = [sys.executable, "-c", question]
        answer = subprocess.run(
            command, cwd=self.path, env=self._environment(), capture_output=True, text=True, check=True
        )
        found, is_built = answer.stdout.split()
        if not Path(found).is_relative_to(self.path) or is_built != "True":
            raise RuntimeError(f"tests would import {found}, kernels built: {is_built}; expected {self.path} and True")


def _output(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def _status(command: list[str], place: Path, environment: dict[str, str], limit: float) -> int | None:
    """Run a command and return its exit status, or None after `limit` seconds, when it and its children are ended."""
    output = place.parent / "output.txt"
    with output.open("w") as file:
        process = subprocess.Popen(
            command, cwd=place, env=environment, stdout=file, stderr=file, start_new_session=True
        )
        try:
            return process.wait(limit)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, 9)
                process.wait()
