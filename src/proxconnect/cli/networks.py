"""The float networks that commands name, and their inputs."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from proxconnect._support import extras
from proxconnect._support.user_code import LoadError, file_of, guarded, load
from proxconnect.cli.examples import of_shapes
from proxconnect.training.models import names
from proxconnect.training.models.names import EDGES


@dataclass(frozen=True)
class FloatNetwork:
    """A float network that a command names: how to build it, its usual input, and the layers that stay float."""

    title: str
    build: Callable[[], nn.Module]
    example: Callable[[nn.Module], Any] | None
    """A function from the built network to its usual input, in the form that `pc.summary` takes; None if unknown."""
    keep: tuple[str, ...] = EDGES
    """The layers that usually stay float, as `binarize` takes them."""

    def input_of(self, shapes: Sequence[Sequence[int]] | None, model: nn.Module) -> Any:
        """Return an input for `model`, which `build` made: a tuple of random float tensors of these shapes.

        Without shapes it is the usual input, or None if that is unknown.
        """
        if shapes:
            return of_shapes(shapes)
        return None if self.example is None else self.example(model)


def small_llama() -> nn.Module:
    """Build an untrained LLaMA language model of 134 million weights; it needs transformers."""
    transformers = extras.require("transformers", "huggingface")
    config = transformers.LlamaConfig(
        vocab_size=32000, hidden_size=768, intermediate_size=2048, num_hidden_layers=12, num_attention_heads=12,
        max_position_embeddings=2048,
    )  # fmt: skip
    model: nn.Module = transformers.LlamaForCausalLM(config)
    return model


LANGUAGE_MODELS = {
    "small_llama": FloatNetwork(
        "LLaMA, 768 wide, 12 layers", small_llama, lambda _: {"input_ids": torch.randint(32000, (1, 128))}
    ),
}


def network(path: str) -> FloatNetwork:
    """Return the float network that `path` names: a name as for `named`, or MODULE:CALLABLE, whose module is imported.

    The callable takes no arguments and returns an nn.Module. Its attribute `example`, if it has one, becomes the usual
    input. ValueError if there is no such network; `build` of the result raises it if the callable does not work.
    """
    if ":" not in path:
        return named(path)
    build = load(path)
    if isinstance(build, nn.Module) or not callable(build):
        raise LoadError(
            f"{path!r} ({file_of(path)}) is of type {type(build).__name__}: name a callable without arguments that "
            "returns a float nn.Module"
        )
    try:
        inspect.signature(build).bind()
    except TypeError as error:
        raise LoadError(f"{path!r} ({file_of(path)}) must be callable without arguments: {error}") from None

    def built() -> nn.Module:
        with guarded(f"calling {path}"):
            model = build()
        if not isinstance(model, nn.Module):
            raise LoadError(f"{path!r} must return a float nn.Module; it returned {type(model).__name__}")
        return model

    def example(_: nn.Module) -> Any:
        if not isinstance(build.example, Tensor | tuple | Mapping):
            raise LoadError(
                f"{path}.example must be a tensor, a tuple of positional arguments or a mapping of keyword arguments; "
                f"it is of type {type(build.example).__name__}"
            )
        return build.example

    return FloatNetwork(path, built, example if hasattr(build, "example") else None)


def named(name: str) -> FloatNetwork:
    """Return the untrained float network of that name: one of ours, else of timm, else of torchvision.

    Raises:
        ValueError: the name is unknown.
        MissingExtraError: it is not one of ours, and timm and torchvision are not installed.
    """
    if name in LANGUAGE_MODELS:
        return LANGUAGE_MODELS[name]
    try:
        found = names.find(name)
    except ValueError as error:
        written = ", ".join(LANGUAGE_MODELS)
        raise ValueError(f"{error}; {written} writes text, and one of your own is MODULE:CALLABLE") from None
    return FloatNetwork(found.title, found.build, lambda model: of_shapes([(1, *found.input_size(model))]), found.keep)
