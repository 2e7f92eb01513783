"""The site can be built, without the cells of its tutorials, and its pages keep what they say."""

import importlib.util
import os
import subprocess
import sys

import pytest

from checks import code_blocks, docstrings, links, public_names
from checks.pages import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site."""
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet", "--builder", "html"]
    without_cells = ["--define", "nb_execution_mode=off"]
    built = subprocess.run(
        [*build, *without_cells, "docs", str(folder)], cwd=ROOT, capture_output=True, text=True, env=os.environ
    )
    assert built.returncode == 0, built.stderr
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
