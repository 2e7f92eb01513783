"""The site can be built, without the cells of its tutorials, and its pages keep what they say."""

import contextlib
import gc
import importlib.util
import os
import sys

import pytest
import sphinx.cmd.build

from checks import code_blocks, docstrings, links, public_names
from checks.pages import ROOT


def build(folder, said):
    """Be a process that builds the site into `folder` and writes warnings into the file `said`."""
    os.chdir(ROOT)
    gc.freeze()
    gc.set_threshold(100_000)  # by the usual 700, looking for garbage takes a third of the time
    options = ["--fail-on-warning", "--keep-going", "--quiet", "--builder", "html"]
    defined = ["--define", "nb_execution_mode=off", "--define", "gallery_saved=bnn,bnn+"]
    with said.open("w") as file, contextlib.redirect_stderr(file), contextlib.redirect_stdout(file):
        sys.exit(sphinx.cmd.build.main([*options, *defined, "docs", str(folder)]))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site, which has the figures of all pairs made and those of two saved."""
    folder, said = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("said") / "warnings"
    process = code_blocks.fresh_processes().Process(target=build, args=(folder, said))
    process.start()
    process.join()
    assert process.exitcode == 0, said.read_text()
    return folder


def test_every_public_name_is_described(site):
    assert public_names.faults(site) == []


def test_no_link_leads_nowhere(site):
    assert links.faults(site) == []


def test_every_example_of_a_docstring_prints_what_it_says():
    assert docstrings.faults() == []


def test_every_block_is_run_or_is_output():
    assert code_blocks.unmarked() == []


PAGES = code_blocks.with_code()


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_the_code_of_a_page_runs_and_prints_what_it_says(page):
    assert code_blocks.run_apart(page) == []


OF_OTHERS = code_blocks.of_others()


@pytest.mark.parametrize(("page", "package"), OF_OTHERS, ids=[package for _, package in OF_OTHERS])
def test_the_code_of_another_library_runs(page, package):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed, whose code {page.name} shows")
    assert code_blocks.run_apart(page) == []
