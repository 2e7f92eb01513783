"""MODULE:NAME on a command line: the object found, and the error if there is none."""

import sys

import pytest

from proxconnect._support.user_code import LoadError, importable_folder, load

CODE = """
def surrogate(x):
    return x

class Group:
    inner = surrogate

def __getattr__(name):
    if name == "lazy":
        raise OSError("no such weights")
    raise AttributeError(name)
"""


def failure(path):
    with importable_folder(), pytest.raises(LoadError) as error:
        load(path)
    return str(error.value)


def test_a_name_may_have_dots(folder):
    (folder / "their_code.py").write_text(CODE)
    with importable_folder():
        assert load("their_code:Group.inner") is load("their_code:surrogate")


def test_a_module_of_a_package_is_found(folder):
    (folder / "their_package").mkdir()
    (folder / "their_package" / "deep.py").write_text("value = [1]")
    with importable_folder():
        assert load("their_package.deep:value") == [1]


def test_the_current_folder_is_importable_no_longer_than_asked(folder):
    before = list(sys.path)
    with importable_folder():
        assert sys.path[0] == str(folder)
    assert sys.path == before
    with pytest.raises(LoadError), importable_folder():
        load("surely_absent:pair")
    assert sys.path == before


@pytest.mark.parametrize("path", ["", ":", "bnn", "module:", ":name", "a b:c", "their_code.py:surrogate", "m:a:b"])
def test_what_is_no_path_is_told_what_one_is(path):
    assert failure(path) == (
        f"{path!r} is no MODULE:NAME, as in my_module:my_pair, which names what `import my_module` finds"
    )


def test_an_absent_module_names_the_folders_tried_and_the_near_file(folder):
    (folder / "their_code.py").write_text(CODE)
    said = failure("their_cod:surrogate")
    assert said.startswith(f"no module 'their_cod' in {folder}, ")
    assert said.endswith(": did you mean 'their_code'?")


def test_an_absent_module_of_a_package_names_the_folder_of_the_package(folder):
    (folder / "their_package").mkdir()
    (folder / "their_package" / "deep.py").touch()
    said = failure("their_package.deap:value")
    assert said == f"no module 'their_package.deap' in {folder / 'their_package'}: did you mean 'deep'?"


def test_a_module_is_no_package(folder):
    (folder / "their_code.py").write_text(CODE)
    assert failure("their_code.deep:value") == (
        f"no module 'their_code.deep': 'their_code' ({folder / 'their_code.py'}) is no package"
    )


def test_an_absent_name_is_told_the_near_one_and_the_file(folder):
    (folder / "their_code.py").write_text(CODE)
    assert failure("their_code:surogate") == (
        f"module 'their_code' ({folder / 'their_code.py'}) has no 'surogate': did you mean 'surrogate'?"
    )
    assert failure("their_code:Group.iner") == "'their_code:Group.iner': type has no 'iner': did you mean 'inner'?"


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("\nraise RuntimeError('no licence')", "RuntimeError: no licence ({file}:2)"),
        ("import sys\nsys.exit(3)", "SystemExit: 3 ({file}:2)"),
        ("\n\nimport surely_absent", "ModuleNotFoundError: No module named 'surely_absent' ({file}:3)"),
        ("\n\n\n\ndef f(:", "{file}:5)"),
    ],
)
def test_code_that_raises_at_import_is_told_with_its_line(folder, code, what):
    file = folder / "their_code.py"
    file.write_text(code)
    said = failure("their_code:pair")
    assert said.startswith("importing 'their_code' raised ")
    assert said.endswith(what.format(file=file))


def test_code_that_raises_when_a_name_is_read_is_told_with_its_line(folder):
    (folder / "their_code.py").write_text(CODE)
    place = f"{folder / 'their_code.py'}:10"
    assert (
        failure("their_code:lazy") == f"reading 'lazy' of 'their_code:lazy' raised OSError: no such weights ({place})"
    )


def test_ctrl_c_at_import_passes(folder):
    (folder / "their_code.py").write_text("raise KeyboardInterrupt")
    with importable_folder(), pytest.raises(KeyboardInterrupt):
        load("their_code:pair")
