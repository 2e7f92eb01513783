"""The machines that one machine stands in for: what limits torch, its libraries and our kernels."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from proxconnect.kernels import instruction_sets

EMULATED_TILES = Path(__file__).parents[2] / "build" / "emulated"
"""Where `make emulated` puts kernels whose AMX tiles are software."""


@dataclass(frozen=True)
class Row:
    """What makes this machine compute like another one."""

    environment: Mapping[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    """Options of pytest, from `machines.plugin`."""
    instruction_set: str | None = None
    """The best instruction set that our kernels may use; None for all."""

    @property
    def is_emulated(self) -> bool:
        """Whether this machine runs the row's instruction set in software only."""
        return self.instruction_set == "amx" and "amx" not in instruction_sets()

    def missing(self) -> str:
        """Return what this machine lacks to run the row, or an empty string."""
        known = instruction_sets()
        if self.is_emulated and not (EMULATED_TILES / "kernels.so").exists():
            return "`make emulated` was not run"
        needed = "avx512" if self.is_emulated else self.instruction_set
        return "" if needed is None or needed in known else f"this machine's kernels lack {needed}"

    def variables(self) -> dict[str, str]:
        """Return the environment variables to set."""
        limit = {} if self.instruction_set is None else {"PROXCONNECT_INSTRUCTION_SET": self.instruction_set}
        return {**self.environment, **limit}


ROWS = {
    "torch without vectors": Row({"ATEN_CPU_CAPABILITY": "default"}),
    "torch with AVX2": Row({"ATEN_CPU_CAPABILITY": "avx2"}),
    "oneDNN with AVX2": Row({"ONEDNN_MAX_CPU_ISA": "AVX2"}),
    "MKL as on any processor": Row({"MKL_CBWR": "COMPATIBLE"}),
    "without oneDNN": Row(options=("--without-onednn",)),
    "two threads": Row(options=("--threads", "2")),
    "kernels: portable": Row(instruction_set="portable"),
    "kernels: AVX2": Row(instruction_set="avx2"),
    "kernels: AVX-512 without counting": Row(instruction_set="avx512_vnni"),
    "kernels: AVX-512": Row(instruction_set="avx512"),
    "kernels: AMX": Row(instruction_set="amx"),
}
"""By name. Tests run on one thread unless a row says otherwise."""
