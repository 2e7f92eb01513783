"""Does the code on the pages run, and print what they say it prints?

A `python` block is run, after those above it on its page; a comment `<!-- python ... -->` is run too, which readers do
not see, and one of `python larq` where larq is installed. A `text` block behind one is what it prints, where `...`
stands for anything. A `sh` block is held against the command's own parser, the Makefile and the extras. Cells of
tutorials are run by the build. Any other block is output or data, and says which.
"""

import contextlib
import difflib
import doctest
import gc
import importlib.util
import io
import itertools
import linecache
import multiprocessing
import multiprocessing.context
import os
import tempfile
import traceback
from pathlib import Path

import torch

from checks.commands import wrong_commands
from checks.pages import ROOT, Block, blocks, pages

SHOWN = {"text", "json", "yaml", "toml", "bibtex"}
"""What is output or data."""

DIRECTIVE = "{"
"""Directives of the site, cells of tutorials among them, which the build runs."""

MINUTES = 3.0
"""How long the code of a page may take."""


def differences(block: Block, printed: str) -> list[str]:
    """Where a `text` block is not what was printed; empty lines around it do not count."""
    shown, printed = (text.strip("\n") + "\n" for text in (block.code, printed))
    if doctest.OutputChecker().check_output(shown, printed, doctest.ELLIPSIS):
        return []
    lines = difflib.unified_diff(shown.splitlines(), printed.splitlines(), "page", "printed", lineterm="")
    return ["\n".join([f"{block.place}: the code above prints something else", *lines])]


def is_runnable(block: Block) -> bool:
    """Whether it is code, and the packages are installed that it needs."""
    return block.kind == "python" and all(importlib.util.find_spec(package) for package in block.needs)


def run_page(page: Path) -> list[str]:
    """The faults of the `python` blocks of one page, run in an empty folder; for a process of its own."""
    found: list[str] = []
    names: dict[str, object] = {"__name__": "__main__"}
    printed: str | None = None
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for block in blocks(page):
            if block.kind == "text" and printed is not None:
                found += differences(block, printed)
            printed = None
            if not is_runnable(block):
                continue
            linecache.cache[block.place] = (len(block.code), None, block.code.splitlines(keepends=True), block.place)
            with contextlib.redirect_stdout(io.StringIO()) as out:
                try:
                    exec(compile(block.code, block.place, "exec"), names)
                except Exception:  # whatever code on a page raises is its fault
                    return [*found, f"{block.place}: does not run\n{traceback.format_exc(limit=-3)}"]
            printed = out.getvalue()
    return found


def _answer(page: Path, results: "multiprocessing.SimpleQueue[list[str]]") -> None:
    gc.freeze()  # `pack` collects garbage, which else goes through all imports
    os.environ["MPLBACKEND"] = "agg"
    torch.set_num_threads(1)  # several pages run side by side
    results.put(run_page(page))


PACKAGES = ["torchvision", "transformers.modeling_utils", "lightning.pytorch", "sphinx.cmd.build", "onnxscript"]
"""Packages that several pages need and that take long to import."""


def fresh_processes() -> multiprocessing.context.ForkServerContext:
    """Return the context of processes that have imported torch and `PACKAGES`, and nothing of a page."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["checks.code_blocks", "proxconnect", *PACKAGES])
    return context


def run_apart(page: Path) -> list[str]:
    """`run_page` in a fresh process, within its time."""
    context = fresh_processes()
    results = context.SimpleQueue()
    process = context.Process(target=_answer, args=(page, results))
    process.start()
    process.join(60 * MINUTES)
    if process.is_alive():
        process.kill()
        return [f"{page}: its code takes more than {MINUTES:g} minutes"]
    return results.get() if not results.empty() else [f"{page}: its code ended the process ({process.exitcode})"]


def unmarked(root: Path = ROOT) -> list[str]:
    """The blocks of all pages that are neither run, nor real commands, nor marked as output."""
    found: list[str] = []
    for block in itertools.chain.from_iterable(map(blocks, pages(root))):
        if block.kind == "sh":
            found += wrong_commands(block, root)
        elif block.kind not in {"python", *SHOWN} and not block.kind.startswith(DIRECTIVE):
            found.append(f"{block.place}: a {block.kind or 'nameless'} block is neither run nor marked as output")
    return found


def with_code(root: Path = ROOT) -> list[Path]:
    """The pages that have code to run."""
    return [page for page in pages(root) if any(block.kind == "python" for block in blocks(page))]


def of_others(root: Path = ROOT) -> list[tuple[Path, str]]:
    """The pages with code of other packages, which are not among what is installed for tests, each with one of them."""
    return sorted({(page, package) for page in pages(root) for block in blocks(page) for package in needed(block)})


def needed(block: Block) -> tuple[str, ...]:
    """The packages that a block of code needs."""
    return block.needs if block.kind == "python" else ()


def faults(root: Path = ROOT) -> list[str]:
    """What is wrong with the blocks of all pages."""
    return unmarked(root) + [fault for page in with_code(root) for fault in run_apart(page)]
