"""A file is there whole or not at all."""

import errno
import os
import stat
import tempfile
from pathlib import Path

import pytest

from proxconnect._support.atomic import replacing, replacing_together


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


@pytest.mark.parametrize(
    ("number", "advice"), [(errno.ENOSPC, "make room on its disk"), (errno.EDQUOT, "make room in your quota")]
)
def test_a_disk_without_room_is_named_by_the_file_that_a_user_knows(tmp_path: Path, number: int, advice: str) -> None:
    with pytest.raises(OSError, match=f"cannot write 'a': {advice}") as raised, replacing(tmp_path / "a"):
        raise OSError(number, os.strerror(number))
    assert raised.value.errno == number
    assert raised.value.filename == str(tmp_path / "a")


def test_an_error_of_another_file_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="elsewhere"), replacing(tmp_path / "a"):
        (tmp_path / "elsewhere").read_bytes()


def put(head: Path, tail: Path, text: str) -> None:
    with replacing_together(head, tail) as temporaries:
        for temporary in temporaries:
            temporary.write_text(text)


def test_two_files_are_replaced_together(tmp_path: Path) -> None:
    head, tail = tmp_path / "net.xml", tmp_path / "net.bin"
    for text in ("old", "new"):
        put(head, tail, text)
        assert names(tmp_path) == ["net.bin", "net.xml"]
        assert (head.read_text(), tail.read_text()) == (text, text)


@pytest.mark.parametrize("has_old", [False, True])
@pytest.mark.parametrize("has_links", [False, True])
@pytest.mark.parametrize("fails", range(5))
def test_both_are_as_they_were_where_one_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_old: bool, has_links: bool, fails: int
) -> None:
    """Whichever renaming fails, on disks with hard links and without."""
    head, tail = tmp_path / "net.xml", tmp_path / "net.bin"
    if has_old:
        put(head, tail, "old")
    before, real, calls = names(tmp_path), Path.replace, []

    def replace(path: Path, target: Path) -> Path:
        calls.append(path)
        if len(calls) == fails + 1:
            raise OSError(errno.EIO, "broken")
        return real(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    if not has_links:
        monkeypatch.setattr(os, "link", no_link)
    try:
        put(head, tail, "new")
    except OSError:
        assert names(tmp_path) == before
        assert not has_old or (head.read_text(), tail.read_text()) == ("old", "old")
    else:
        assert len(calls) <= fails
        assert (head.read_text(), tail.read_text()) == ("new", "new")


def no_link(*_: object) -> None:
    raise OSError(errno.EPERM, "no links here")
