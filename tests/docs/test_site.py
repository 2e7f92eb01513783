"""The site can be built, without the cells of its tutorials, and its pages keep what they say."""

import os
import subprocess
import sys

import pytest

from checks import code_blocks, links, public_names
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


def test_every_block_is_run_or_is_output():
    assert code_blocks.unmarked() == []


PAGES = code_blocks.with_code()


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_the_code_of_a_page_runs_and_prints_what_it_says(page):
    assert code_blocks.run_apart(page) == []
