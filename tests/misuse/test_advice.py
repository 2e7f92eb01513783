"""Messages of the package name only functions that exist, and only arguments that they take."""

import ast
import builtins
import copy
import functools
import importlib
import inspect
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import proxconnect as pc

SOURCE = Path(pc.__file__).parent
ROOMS = [
    importlib.import_module(f"proxconnect{name}")
    for name in ("", ".pairs", ".pairs.prox", ".quantizer", ".layers", ".conversion", ".optim", ".deploy",
                 ".deploy.packed", ".export", ".inspection", ".kernels", ".theory")
]  # fmt: skip
OBJECTS = {  # by the names that messages give them
    "pc": pc, "proxconnect": pc, "torch": torch, "optimizer": torch.optim.Optimizer, "pair": pc.Pair,
    "model": nn.Module, "module": nn.Module, "layer": pc.BinaryLinear, "layers": pc.BinaryLinear, "value": torch.Tensor,
    "student": nn.Module, "distillation": nn.Module, "x": torch.Tensor, "nn": nn, "prune": prune,
    "functools": functools, "copy": copy, "recorder": pc.theory.Recorder,
    **{room.__name__.rpartition(".")[2]: room for room in ROOMS},
}  # fmt: skip
OF_OTHERS = {  # which tests may not have
    "trainer.fit", "from_pretrained", "weight_norm", "fit", "StateDictOptions",
    "torch.distributed.checkpoint.state_dict.get_model_state_dict",
}  # fmt: skip
ARGUMENTS_OF_OTHERS = {"persistent", "use_reentrant", "out", "pair", "seed", "download"}
"""Those of torch, axes of a study, and of a data module that the message cannot name."""

MATHS = {*"ABFHLPTkr", "SS", "clip", "cos", "dist", "erf", "ln", "max", "min", "sign", "tanh"}
"""Functions of formulas."""

NAME = r"(?<![\w.}/-])([A-Za-z_]\w*(?:\.\w+)*)"
CALL = re.compile(NAME + r"\(((?:[^()]|\([^()]*\))*)\)")
KEYWORD = re.compile(r"(?<![\w.-])([a-z_]\w*)=(?![=\s])")


class Message(NamedTuple):
    place: str
    text: str
    own: frozenset[str]
    """The functions, classes, fields and arguments that its file defines."""


def defined(nodes: Iterable[ast.AST]) -> frozenset[str]:
    """The functions and classes among the nodes of a file, and the arguments and fields of these."""
    found = set()
    for node in nodes:
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.arg(arg=name) | ast.AnnAssign(target=ast.Name(id=name)):
                found.add(name)
    return frozenset(found)


def prose(path: Path) -> Iterator[Message]:
    """All strings of a file that are no docstrings, with `{}` for what is filled in, if they have several words."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    own = defined(nodes)
    skipped = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}  # docstrings
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            skipped |= {id(part) for part in ast.walk(node) if part is not node}
            text = "".join(str(p.value) if isinstance(p, ast.Constant) else "{}" for p in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        else:
            continue
        if id(node) not in skipped and " " in text:
            yield Message(f"{path.relative_to(SOURCE)}:{node.lineno}", text, own)


@functools.cache
def public() -> dict[str, list[Any]]:
    """What each name may mean: public functions and classes, and methods of the classes and of modules."""
    known: dict[str, list[Any]] = {}
    classes = [nn.Module, torch.optim.Optimizer, torch.Tensor]
    for room in ROOMS:
        for name in getattr(room, "__all__", [n for n in vars(room) if not n.startswith("_")]):
            found = getattr(room, name)
            known.setdefault(name, []).append(found)
            classes += [found] if inspect.isclass(found) and found.__module__.startswith("proxconnect") else []
    for owner in classes:
        for name in dir(owner):
            if not name.startswith("_"):
                known.setdefault(name, []).append(inspect.getattr_static(owner, name))
    return known


def meanings(name: str) -> list[Any]:
    """What a name of a message may mean; empty if nothing has it."""
    first, *rest = name.split(".")
    if not rest:
        return public().get(name) or ([vars(builtins)[name]] if name in vars(builtins) else [])
    found = [OBJECTS[first]] if first in OBJECTS else public().get(first, [])
    for part in rest:
        owners = [torch.Tensor if isinstance(owner, property) else owner for owner in found]  # as layer.weight
        found = [getattr(owner, part) for owner in owners if hasattr(owner, part)]
    return found or ([anything] if first == "proxconnect" and is_in_source(rest) else [])


def anything(*_: Any, **__: Any) -> None:
    """Stand for an object of a module that is slow to import."""


def is_in_source(parts: list[str]) -> bool:
    """Whether a module of the package has this path, or a class or function at its end."""
    path = SOURCE.joinpath(*parts)
    if path.is_dir() or path.with_suffix(".py").is_file():
        return True
    module = path.parent.with_suffix(".py")
    return module.is_file() and parts[-1] in defined(ast.walk(ast.parse(module.read_text())))


def takes(function: Any, keyword: str) -> bool:
    try:
        parameters = inspect.signature(getattr(function, "__func__", function)).parameters.values()
    except (TypeError, ValueError):
        return True  # of C
    return any(p.name == keyword or p.kind is p.VAR_KEYWORD for p in parameters)


def is_ours(found: Any) -> bool:
    return callable(found) and str(getattr(found, "__module__", "")).startswith("proxconnect")


def wrong_advice(text: str, own: frozenset[str] = frozenset()) -> list[str]:
    """The functions, names and arguments in a message that do not exist; `own` are those of its file."""
    wrong = []
    for name, arguments in CALL.findall(text):
        if name in OF_OTHERS | MATHS | own or (name.split(".")[0] not in OBJECTS and not name.isascii()):
            continue
        if not (found := meanings(name)):
            wrong.append(f"{name}()")
        wrong += [
            f"{name}({keyword}=)"
            for keyword in KEYWORD.findall(arguments)
            if not any(takes(function, keyword) for function in found)
        ]
    for name in re.findall(
        r"(?<![\w.}/-])((?:proxconnect|pc|theory|kernels|torch|recorder)\.(?!png|fish)\w+(?:\.\w+)*)", text
    ):
        if name not in OF_OTHERS and not meanings(name):
            wrong.append(name)
    if free := set(KEYWORD.findall(CALL.sub("", text))) - own - ARGUMENTS_OF_OTHERS:
        named = [found for word in re.findall(NAME, text) for found in meanings(word) if is_ours(found)]
        wrong += [f"{keyword}=" for keyword in free if not any(takes(function, keyword) for function in named)]
    return wrong


def test_messages_name_only_what_exists() -> None:
    files = [path for path in sorted(SOURCE.rglob("*.py")) if "plots" not in path.parts]  # which writes JavaScript
    messages = [message for path in files for message in prose(path)]
    assert len(messages) > 1000
    wrong = {message.place: said for message in messages if (said := wrong_advice(message.text, message.own))}
    assert not wrong


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("pass recorder.trajectory(...) first", ["recorder.trajectory()", "recorder.trajectory"]),
        ("call pc.binarise(model) first", ["pc.binarise()", "pc.binarise"]),
        ("call pc.binarize(model, alpha=None)", ["pc.binarize(alpha=)"]),
        ("make it with theory.correkt", ["theory.correkt"]),
        ("write it otherwise, or narrow domain=(low, high)", ["domain="]),
        ("call decompose with a narrower domain=(low, high)", []),
        ("call recorder.trajectories() after optimizer.step(), or correct(B, normalise=True)", []),
    ],
)
def test_wrong_advice_is_noticed(text: str, wrong: list[str]) -> None:
    assert wrong_advice(text) == wrong
