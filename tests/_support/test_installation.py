"""The hint on how to install an extra works from where proxconnect was installed: a folder, a repository, an index."""

import json
import shlex

import pytest
from packaging.requirements import Requirement

from proxconnect._support import extras
from proxconnect._support.installation import pip_install

GIT = "https://git.example/net/proxconnect.git"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install proxconnect as far as its metadata, with the record that pip writes for a source; None for an index."""

    def install(record: dict | None) -> None:
        folder = tmp_path / "site" / "proxconnect-9.9.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: proxconnect\nVersion: 9.9\n")
        if record is not None:
            (folder / "direct_url.json").write_text(json.dumps(record))
        monkeypatch.syspath_prepend(str(folder.parent))

    return install


def arguments(extra: str = "train") -> list[str]:
    """The arguments that a shell would pass to `pip install`."""
    pip, install, *others = shlex.split(pip_install(extra))
    assert (pip, install) == ("pip", "install")
    return others


@pytest.mark.parametrize("editable", [True, False])
def test_from_a_checkout_it_is_the_folder(installed, tmp_path, editable):
    checkout = tmp_path / "my checkout"
    checkout.mkdir()
    installed({"url": checkout.as_uri(), "dir_info": {"editable": True} if editable else {}})
    assert arguments() == [*["-e"] * editable, f"{checkout}[train]"]


@pytest.mark.parametrize(("revision", "end"), [("v0.2", "@v0.2"), (None, "")])
def test_from_a_repository_it_is_its_url_at_the_revision_that_was_asked_for(installed, revision, end):
    asked = {"requested_revision": revision} if revision else {}
    installed({"url": GIT, "vcs_info": {"vcs": "git", "commit_id": "1" * 40, **asked}})
    (argument,) = arguments()
    found = Requirement(argument)
    assert (found.name, found.extras, found.url) == ("proxconnect", {"train"}, f"git+{GIT}{end}")


def test_a_repository_of_this_machine_is_no_folder_to_install(installed, tmp_path):
    installed({"url": tmp_path.as_uri(), "vcs_info": {"vcs": "git", "commit_id": "1" * 40}})
    assert Requirement(*arguments()).url == f"git+{tmp_path.as_uri()}"


def test_from_an_archive_it_is_the_archive(installed, tmp_path):
    wheel = tmp_path / "proxconnect-9.9-py3-none-any.whl"
    wheel.touch()
    installed({"url": wheel.as_uri(), "archive_info": {}})
    assert arguments() == [f"{wheel}[train]"]


def test_from_an_archive_elsewhere_it_is_its_url(installed):
    installed({"url": "https://files.example/proxconnect-9.9.tar.gz", "archive_info": {}})
    assert Requirement(*arguments()).url == "https://files.example/proxconnect-9.9.tar.gz"


@pytest.mark.parametrize("record", [None, {"url": "file:///no/such/checkout", "dir_info": {}}])
def test_from_an_index_or_a_folder_that_is_gone_it_is_the_name(installed, record):
    installed(record)
    assert arguments() == ["proxconnect[train]"]


def test_without_metadata_it_is_the_name(monkeypatch):
    monkeypatch.setattr("sys.path", [])
    assert pip_install("train") == "pip install 'proxconnect[train]'"


def test_options_and_no_extra(installed):
    installed(None)
    assert pip_install(options="--no-deps") == "pip install --no-deps proxconnect"


def test_the_error_about_an_absent_package_ends_with_the_command(installed, tmp_path):
    installed({"url": tmp_path.as_uri(), "dir_info": {}})
    with pytest.raises(extras.MissingExtraError, match="no_such_package is not installed") as caught:
        extras.require("no_such_package", "train")
    assert str(caught.value).endswith(f"run: pip install '{tmp_path}[train]'")
