"""A file is there whole or not at all."""

import os
import stat
import tempfile
from pathlib import Path

import pytest

from proxconnect.atomic import replacing


def names(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


def test_writes_and_leaves_nothing_else(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.json") as temporary:
        assert temporary.parent == tmp_path.resolve()
        assert temporary.suffix == ".json"
        temporary.write_text("new")
        assert not (tmp_path / "a.json").exists()
    assert names(tmp_path) == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(error), replacing(path) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise error
    assert names(tmp_path) == ["a.json"]
    assert path.read_text() == "old"


def test_a_failed_renaming_deletes_the_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with pytest.raises(OSError, match="a"), replacing(path) as temporary:  # noqa: PT012
        temporary.write_text("new")
        (path / "in the way").mkdir(parents=True)
    assert names(tmp_path) == ["a"]


def test_two_writers_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with replacing(path) as outer:
        outer.write_text("outer")
        with replacing(path) as inner:
            inner.write_text("inner")
        assert path.read_text() == "inner"
    assert path.read_text() == "outer"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_permissions_are_those_of_open(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        (tmp_path / "opened").write_text("")
        with replacing(tmp_path / "replaced") as temporary:
            temporary.chmod(0o600)  # as a writer that makes its own file would
    finally:
        os.umask(before)
    assert (tmp_path / "replaced").stat().st_mode == (tmp_path / "opened").stat().st_mode


def test_keeps_the_permissions_of_what_it_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    path.chmod(0o640)
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_follows_a_link(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    target, link = tmp_path / "deep" / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    with replacing(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(FileNotFoundError, match=r"must exist and be writable.*nowhere"),
        replacing(tmp_path / "nowhere" / "a"),
    ):
        pass


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="give the name of a file"), replacing(tmp_path):
        pass


def test_a_read_only_directory_is_named() -> None:
    """As an unprivileged user, since root may write anywhere."""
    with tempfile.TemporaryDirectory() as name:
        directory, user = Path(name), os.geteuid()
        (directory / "a").write_text("old")
        directory.chmod(0o555)
        if user == 0:
            os.seteuid(65534)
        try:
            with pytest.raises(PermissionError, match="must exist and be writable"), replacing(directory / "a"):
                pass
        finally:
            os.seteuid(user)
            directory.chmod(0o755)
        assert names(directory) == ["a"]
