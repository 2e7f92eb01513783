"""Every argument of `proxconnect.huggingface`, given what it cannot take: the error names it."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

import proxconnect as pc
from proxconnect.huggingface import ProxConnectConfig, from_pretrained, save_pretrained
from proxconnect.huggingface.lora import for_binary


def linear() -> nn.Module:
    return nn.Sequential(*[nn.Linear(4, 4) for _ in range(3)])


RIGHT: dict[Callable[..., Any], Callable[[], dict[str, Any]]] = {
    ProxConnectConfig: dict,
    save_pretrained: lambda: {"packed": pc.pack(pc.binarize(linear())), "folder": "folder", "title": "title",
                              "pair": "bnn++", "architecture": "linear()"},
    from_pretrained: lambda: {"name": "folder", "float_model": linear()},
    for_binary: dict,
}  # fmt: skip

ARGUMENTS = [
    (function, parameter.name)
    for function in RIGHT
    for parameter in inspect.signature(function).parameters.values()
    if parameter.kind is not parameter.VAR_KEYWORD and parameter.name != "revision"  # which the hub looks up
]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_pretrained(**RIGHT[save_pretrained]())


@pytest.mark.parametrize(("function", "argument"), ARGUMENTS)
def test_nonsense_is_named(function, argument):
    arguments = RIGHT[function]() | {argument: object()}
    with pytest.raises((TypeError, ValueError)) as caught:
        function(**arguments)
    assert "object" in str(caught.value)
    assert any(name in str(caught.value) for name in (argument, "save(model, path) takes an nn.Module"))
