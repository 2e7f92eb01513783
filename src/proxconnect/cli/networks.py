"""The float networks that commands name, their inputs and their outputs."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from proxconnect._support import extras
from proxconnect._support.example import arguments, tensors_in
from proxconnect._support.user_code import LoadError, file_of, guarded, load
from proxconnect.cli.parser import positive
from proxconnect.training.models import names


@dataclass(frozen=True)
class FloatNetwork:
    """A float network that a command names: how to build it, its usual input, and the layers that stay float."""

    title: str
    build: Callable[[], nn.Module]
    example: Callable[[nn.Module], Any] | None
    """A function from the built network to its usual input, in the form that `pc.summary` takes; None if unknown."""
    keep: tuple[str, ...] = names.EDGES
    """The layers that usually stay float, as `binarize` takes them."""

    def input_of(self, shapes: Sequence[Sequence[int]] | None, model: nn.Module) -> Any:
        """Return a tuple of random float tensors of these shapes; without any, the usual input of `model` or None."""
        if shapes:
            return of_shapes(shapes)
        return None if self.example is None else self.example(model)


def small_llama() -> nn.Module:
    """Build an untrained LLaMA language model of 134 million weights; it needs transformers."""
    return _llama(hidden_size=768, intermediate_size=2048, num_hidden_layers=12, num_attention_heads=12)


def llama_1b() -> nn.Module:
    """Build an untrained LLaMA language model of 953 million weights; it needs transformers."""
    return _llama(hidden_size=2048, intermediate_size=5632, num_hidden_layers=16, num_attention_heads=32)


def _llama(**sizes: int) -> nn.Module:
    transformers = extras.require("transformers", "huggingface")
    config = transformers.LlamaConfig(vocab_size=32000, max_position_embeddings=2048, **sizes)
    model: nn.Module = transformers.LlamaForCausalLM(config)
    return model


def _prompt(_: nn.Module) -> Any:
    return {"input_ids": torch.randint(32000, (1, 128))}


LANGUAGE_MODELS = {
    "small_llama": FloatNetwork("LLaMA, 768 wide, 12 layers", small_llama, _prompt),
    "llama_1b": FloatNetwork("LLaMA, 2048 wide, 16 layers", llama_1b, _prompt),
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

    ValueError for an unknown name; MissingExtraError if it is not ours, and no library to look in is installed.
    """
    if name in LANGUAGE_MODELS:
        return LANGUAGE_MODELS[name]
    try:
        found = names.find(name)
    except ValueError as error:
        writers = " and ".join(LANGUAGE_MODELS)
        raise ValueError(f"{error}; {writers} write text, and one of your own is MODULE:CALLABLE") from None
    return FloatNetwork(found.title, found.build, lambda model: of_shapes([(1, *found.input_size(model))]), found.keep)


def add_input(add: Callable[..., Any]) -> None:
    """Add the option --input with `add`, the `add_argument` of a parser or of a group.

    Each --input is the shape of one input. The parsed value is the list of these shapes, or None without any.
    """
    add("--input", nargs="+", type=positive, action="append", metavar="N", help="shape of an input, the batch first; "
        "again for a second one; default: the network's own")  # fmt: skip


def of_shapes(shapes: Sequence[Sequence[int]]) -> tuple[Tensor, ...]:
    """Return a tensor of normally distributed random floats for each shape; ValueError if memory is short."""
    try:
        return tuple(torch.randn(*shape) for shape in shapes)
    except (RuntimeError, MemoryError):
        raise ValueError(f"there is no memory for an input of {shown(shapes)}: pass a smaller shape") from None


def with_batch(example: Any, size: int) -> Any:
    """Return `example` as a batch of `size`: each tensor repeats its first entry along its first dimension.

    Tensors without dimensions and other values stay as they are.
    """
    return tree_map_only(Tensor, lambda t: t[:1].repeat(size, *[1] * (t.dim() - 1)) if t.dim() else t, example)


def shapes_of(example: Any) -> tuple[tuple[int, ...], ...]:
    """Return the shape of each tensor in `example`, also of those inside lists, mappings and objects."""
    return tuple(tuple(tensor.shape) for tensor in tensors_in(example))


def shown(shapes: Sequence[Sequence[int]]) -> str:
    """Return the shapes as text, joined by " and ", as in "1×128 and 1×3×224×224".

    A shape without dimensions is "a number"; no shapes at all are "no tensor".
    """
    return " and ".join("×".join(map(str, shape)) or "a number" for shape in shapes) or "no tensor"


def run(model: nn.Module, example: Any) -> Any:
    """Call `model` on a tensor, a tuple of positional or a mapping of keyword arguments, and return its output."""
    args, kwargs = arguments(model, example)
    return model(*args, **kwargs)


@torch.no_grad()
def require_runs(title: str, model: nn.Module, example: Any) -> None:
    """Run `model` on `example` once, and raise ValueError if that fails; `title` is its name in the message."""
    try:
        run(model, example)
    except Exception as error:
        shapes = shown(shapes_of(example))
        raise ValueError(f"{title} does not take {shapes} ({type(error).__name__}: {error})") from error


def difference(expected: list[Tensor], got: list[Tensor]) -> float:
    """Return the largest absolute difference between two lists of tensors: infinity if shapes differ, 0 if empty."""
    if [t.shape for t in expected] != [t.shape for t in got]:
        return float("inf")
    pairs = zip(expected, got, strict=True)
    return max((float((a.double() - b.double()).abs().max()) for a, b in pairs if a.numel()), default=0.0)
