"""The site can be built, without the cells of its tutorials, and its pages keep what they say."""

import contextlib
import gc
import importlib.util
import json
import os
import sys

import pytest
import sphinx.cmd.build

from checks import code_blocks, docstrings, links, public_names
from checks.pages import ROOT, blocks
from extensions.gallery import pages
from proxconnect.pairs import PAIRS


def build(folder, said):
    """Be a process that builds the site into `folder` and writes warnings into the file `said`."""
    os.chdir(ROOT)
    gc.freeze()
    gc.set_threshold(100_000)  # by the usual 700, looking for garbage takes a third of the time
    options = ["--fail-on-warning", "--keep-going", "--quiet", "--builder", "html"]
    # A quarter of the time goes into the lists of pages that the theme puts on every page.
    values = ["nb_execution_mode=off", "gallery_saved=bnn,bnn+,pc", "html_theme=basic"]
    defined = [word for value in values for word in ("--define", value)]
    with said.open("w") as file, contextlib.redirect_stderr(file), contextlib.redirect_stdout(file):
        sys.exit(sphinx.cmd.build.main([*options, *defined, "docs", str(folder)]))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site, which has the figures of three pairs: sharp, heuristic and moving with μ."""
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


TUTORIALS = sorted(path.stem for path in (ROOT / "docs" / "tutorials").glob("*.md") if path.stem != "index")


@pytest.mark.parametrize("name", TUTORIALS)
def test_each_tutorial_offers_a_notebook_with_its_code(site, name):
    assert f'href="{name}.ipynb" download' in (site / "tutorials" / f"{name}.html").read_text()
    cells = json.loads((site / "tutorials" / f"{name}.ipynb").read_text())["cells"]
    code = ["".join(cell["source"]).strip() for cell in cells if cell["cell_type"] == "code"]
    page = blocks(ROOT / "docs" / "tutorials" / f"{name}.md")
    assert code == [block.code.strip() for block in page if block.kind == "{code-cell}"]


def test_no_link_in_the_repository_leads_nowhere():
    assert links.in_repository() == []


def test_every_example_of_a_docstring_prints_what_it_says():
    assert docstrings.faults() == []


def test_every_block_is_run_or_is_output():
    assert code_blocks.unmarked() == []


OF_PAIRS = ROOT / "docs" / "gallery" / "pairs"
PAGES = [page for page in code_blocks.with_code() if page.parent != OF_PAIRS]


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_the_code_of_a_page_runs_and_prints_what_it_says(page):
    assert code_blocks.run_apart(page) == []


def test_code_that_ends_its_process_is_found(tmp_path):
    """Here, since the processes of this file have imported already what takes long."""
    path = tmp_path / "page.md"
    path.write_text("<!-- python\nimport os; os._exit(3)\n-->\n")
    (fault,) = code_blocks.run_apart(path)
    assert "ended the process (3)" in fault


def test_the_code_of_each_pair_s_page_runs(tmp_path):
    """All in one process, since it is one line for each name."""
    for number, name in enumerate(PAIRS):
        path = tmp_path / f"{number}.md"
        path.write_text(pages.page(name))
        assert any(block.kind == "python" for block in blocks(path))
        assert code_blocks.run_page(path) == []


OF_OTHERS = code_blocks.of_others()


@pytest.mark.parametrize(("page", "package"), OF_OTHERS, ids=[package for _, package in OF_OTHERS])
def test_the_code_of_another_library_runs(page, package):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed, whose code {page.name} shows")
    assert code_blocks.run_apart(page) == []
