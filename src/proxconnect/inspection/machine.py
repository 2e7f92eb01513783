"""The machine that figures are measured on."""

import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch

from proxconnect import kernels


@dataclass(frozen=True)
class Machine:
    """The machine and software that measured times depend on; `str()` describes them in a line. See `Machine.here`."""

    cpu: str
    """The model of the processor."""
    threads: int
    """The number of threads that torch uses."""
    instruction_set: str | None
    """The instruction set that the kernels use; None if they are not built."""
    torch: str
    """The version of torch."""

    @classmethod
    def here(cls) -> Self:
        """Return the description of this machine, with the number of threads that torch uses now."""
        best = kernels.instruction_sets()[-1:]
        return cls(cpu(), torch.get_num_threads(), best[0] if best else None, torch.__version__)

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'s' * (self.threads > 1)}"
        by = "KERNELS NOT BUILT" if self.instruction_set is None else f"kernels {self.instruction_set}"
        return f"{self.cpu}, {threads}, {by}, torch {self.torch}"


def cpu() -> str:
    """Return the processor's model name as the system states it, or else what `platform` knows, if anything."""
    try:
        if sys.platform == "darwin":
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    except (OSError, subprocess.CalledProcessError):
        pass
    return platform.processor() or platform.machine() or "unknown processor"
