"""`proxconnect completion`: the script in a real shell."""

import contextlib
import io
import shutil
import subprocess

import pytest

from proxconnect._support.installation import pip_install
from proxconnect.cli.command import main
from proxconnect.cli.verbs.completion import SHELLS

COMPLETE = """
source ./script
COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); COMPREPLY=()
_shtab_proxconnect
printf '%s\\n' "${COMPREPLY[@]}"
"""
COMPLETIONS = {
    "proxconnect che": {"check"},
    "proxconnect check bnn+": {"bnn+", "bnn++"},
    "proxconnect check rest": {"reste"},
    "proxconnect check --backward my:b --pl": {"--plot"},
    "proxconnect bench react_": {"react_resnet18"},
    "proxconnect bench small_": {"small_cnn", "small_vit", "small_llama"},
    "proxconnect bench swin_v2_": {"swin_v2_b", "swin_v2_s", "swin_v2_t"},
    "proxconnect bench vit_tiny_patch16_2": {"vit_tiny_patch16_224"},
    "proxconnect pack last.ckpt --weights bnn": {"bnn", "bnn+", "bnn++"},
    "proxconnect pack la": {"last.ckpt"},
    "proxconnect pack last.ckpt --model react_": {"react_resnet18"},
    "proxconnect demo --pairs bc bnn+": {"bnn+", "bnn++"},
    "proxconnect demo --out fol": {"folder"},
    "proxconnect demo --modes BWA": {"BWA", "BWAA"},
    "proxconnect study la": {"last.ckpt"},
    "proxconnect export f --to on": {"onnx"},
    "proxconnect fit --ckpt_": {"--ckpt_path"},
    "proxconnect fit --config la": {"last.ckpt"},
    "proxconnect fit --model.rule p": {"pc++", "proxquant", "post_training"},
    "proxconnect fit --model.binary.weights bnn+": {"bnn+", "bnn++"},
    "proxconnect fit --model.network.name small_": {"small_cnn", "small_vit"},
    "proxconnect test --data Ci": {"Cifar10", "Cifar100"},
    "proxconnect completion f": {"fish"},
}


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """The script of each shell."""
    made = {}
    for shell in SHELLS:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            assert main(["completion", shell]) == 0
        made[shell] = tmp_path_factory.mktemp(shell) / "script"
        made[shell].write_text(printed.getvalue())
    return made


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_reads_the_script(scripts, shell):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    read = subprocess.run([shell, "-n", scripts[shell]], capture_output=True, text=True, timeout=60)
    assert (read.returncode, read.stdout, read.stderr) == (0, "", "")


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes(scripts):
    place = scripts["bash"].parent
    (place / "last.ckpt").touch()
    (place / "folder").mkdir()
    for words, expected in COMPLETIONS.items():
        command = ["bash", "-c", COMPLETE, "bash", *words.split()]
        found = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=60)
        assert (set(found.stdout.split()), found.stderr) == (expected, ""), words


@pytest.mark.parametrize("shell", SHELLS)
def test_every_script_knows_commands_options_pairs_and_networks(scripts, shell):
    text = scripts[shell].read_text()
    for word in ("completion", "binary.weights", "bnn++", "reste", "bireal_resnet18", "vit_tiny_patch16_224"):
        assert word in text


def test_without_shtab_it_says_how_to_get_it(capsys, absent):
    absent("shtab")
    assert main(["completion", "bash"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert pip_install("completion") in printed.err
