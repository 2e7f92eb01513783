"""Conversion of a float model into a binary one."""

import warnings
from typing import Any

from torch import nn

from proxconnect._support.arguments import boolean, require_module
from proxconnect._support.text import some
from proxconnect.conversion.eligibility import FORMS, Include, WeightLayer, float_inputs, registered_edges, survey
from proxconnect.conversion.flow import trace
from proxconnect.conversion.patterns import Keep, PairChoice, first_match, kept, require_effect, resolve_choice
from proxconnect.conversion.table import Plan, Row
from proxconnect.conversion.tying import Decision, agreed, require_embedding, tie
from proxconnect.conversion.undoing import unchanged_on_error
from proxconnect.layers import Accumulator
from proxconnect.layers.base import BinaryLayer, name_layers, pair_of_inputs, require_binary_input
from proxconnect.layers.converted import BinaryConv, require_padding_value
from proxconnect.layers.embedding import INDICES, BinaryEmbedding
from proxconnect.layers.fast_path import call_every_layer
from proxconnect.layers.groups import require_divisible, require_groups
from proxconnect.layers.one_sign import ADVICE
from proxconnect.pairs import AnyPair
from proxconnect.quantizer.quantizer import Quantizer
from proxconnect.quantizer.scales import Scale

ONE_SIGN = "its input has one sign only"


def binarize(
    model: nn.Module, weights: PairChoice = "bnn++", activations: PairChoice = None, *, scale: Scale = "channel",
    accumulator: Accumulator | None = None, keep: Keep = "edges", example: Any = None, padding_value: int = 0,
    include: Include = (), group_size: int | None = None, embeddings: bool = False,
) -> nn.Module:  # fmt: skip
    """Make layers of `model` binary, in place, and return it; `model.binarization` is the `Plan` that was followed.

    Linear layers, convolutions, transposed convolutions, `nn.MultiheadAttention` and transformers' `Conv1D` become
    `BinaryLinear`, `BinaryConv2d` and so on, and on request embeddings become `BinaryEmbedding`. They stay the same
    objects, and so do their parameters; the weight is renamed `latent`. For other parameters see `binarize_parameter`.
    On any error the model stays as it was.

    With an `example`, a warning lists layers whose binary input would have one sign only, as behind a ReLU.

    Args:
        model: a float model.
        weights: the pair of the weights: a name of `PAIRS`, a `Pair`, a `Heuristic`, or a mapping from glob patterns on
            qualified layer names to those, or to None for float. The first pattern that fits a layer decides, so write
            `{"2": "bc", "*": "bnn"}`; a layer without a pattern stays float. A heuristic by its name is the published
            one: μ of "bnn+" is fixed unless you give `Sharpening` a start or an end.
        activations: the pair of the layers' inputs, in the same forms; None and "fp" leave them float.
        scale: "channel" for a scale per output channel, "tensor" for one per layer, "learned" for a trained one per
            channel, or None.
        accumulator: the accumulator of the sums of binary inputs, such as `Accumulator(bits=8)`; None for no limit.
        keep: the layers that stay float: "edges" for the layers that see the raw input or make an output, glob patterns
            on layer names (also with "edges" among them), a callable (name, module) → bool, or None.
        example: an input of the model: a tensor, a tuple of positional arguments or a mapping of keyword arguments. A
            run on it finds the edges, and the layers whose forward is bypassed: their inputs stay float. Without it the
            edges are the first registered layer, unless an embedding precedes it, the last, and those that
            `get_classifier()` or `get_output_embeddings()` return.
        padding_value: the value that convolutions of binary inputs with `padding_mode="zeros"` pad with: 0, 1 or -1.
        include: subclasses of those layers to convert although they override `forward`, which is then lost. Methods and
            attributes that a subclass adds stay.
        group_size: give every `group_size` inputs of an output channel a scale of their own, as GGUF's Q1_0 does with
            128; None for one scale a channel. It is for linear layers with float inputs, and for embeddings.
        embeddings: make `nn.Embedding` layers binary too, with a scale for each row. An embedding and a head that are
            tied become binary together, with one latent, or stay float together: to make all matrices of a language
            model binary, pass `keep=None` as well.

    Raises:
        ValueError: a pair or scale is unknown or does not fit, F or B of a pair of your own is no sound map, a pattern
            fits no layer or decides nothing, a padding value is not 0, 1 or -1, a padding value or an accumulator has
            no binary inputs, groups do not suit a layer, tied layers would have two pairs, `embeddings` makes no
            embedding binary, the model is binary, lazy or integer or has an attribute
            `binarization`, or nothing would become binary.
        TypeError: an argument has another type.
        Exception: the model's own error for the `example`, or that of your `keep`, with a note.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2))
        >>> pc.binarize(model, "bnn++")[1]
        BinaryLinear(
          in_features=8, out_features=8, bias=True, weight=bnn++(latent), scale=channel
          (weight_quantizer): Quantizer('bnn++', scale='channel')
        )
        >>> [name for name, _ in model[1].named_parameters()]
        ['latent', 'bias']
    """
    require_module(model, "binarize(model, weights)")
    result, decisions = _decide(
        model, weights, activations, scale, accumulator, keep, example, padding_value, include, group_size, embeddings
    )  # fmt: skip
    if not result.binary:
        advice = "pass keep=None to binarize the edges too, or patterns that fit other layers"
        if all(layer.obstacle for layer, *_ in decisions):
            known = ", ".join(form.float_name() for form in FORMS)
            advice = f"only layers ({known}) whose weight is a plain float parameter of their own can be binary"
        raise ValueError(f"no layer would become binary:\n{result}\n{advice}")
    if constant := [row.name for row in result.rows if row.reason == ONE_SIGN]:
        warnings.warn(
            f"on the example the input of {some(constant)} has one sign only, as a ReLU leaves it: binary it is the "
            f"same for every example and says nothing. {ADVICE}",
            stacklevel=2,
        )
    with unchanged_on_error(model):
        model.binarization = result  # type: ignore[assignment]  # torch types attributes as tensors or modules
        for layer, pair, input_pair, reason in decisions:
            if pair is None or layer.form is None:
                continue
            converted = layer.form.convert(
                layer.module, weights=pair, activations=input_pair, scale=scale,
                accumulator=None if input_pair is None else accumulator, group_size=group_size,
            )  # fmt: skip
            if isinstance(converted, BinaryConv) and input_pair is not None and converted.padding_mode == "zeros":
                converted.set_padding_value(padding_value)
            if reason == ONE_SIGN:
                for part in converted.modules():
                    if isinstance(part, BinaryLayer):
                        part.first_inputs.is_settled = True  # the warning was given
        tie(model)
        call_every_layer(model)
        name_layers(model)
    return model


def plan(
    model: nn.Module, weights: PairChoice = "bnn++", activations: PairChoice = None, *, scale: Scale = "channel",
    accumulator: Accumulator | None = None, keep: Keep = "edges", example: Any = None, padding_value: int = 0,
    include: Include = (), group_size: int | None = None, embeddings: bool = False,
) -> Plan:  # fmt: skip
    """Return the plan that `binarize` would follow for the same arguments; the model stays as it is.

    Arguments and errors are those of `binarize`, but a plan without binary layers is no error.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2))
        >>> print(pc.plan(model, "bnn++"))
        1 of 3 layers binary, scale channel
        <BLANKLINE>
         layer   type     weights, inputs
         ────────────────────────────────────────────────────────
         0       Linear   float: edge: the first layer registered
         1       Linear   bnn++, float
         2       Linear   float: edge: the last layer registered
    """
    require_module(model, "plan(model, weights)")
    return _decide(
        model, weights, activations, scale, accumulator, keep, example, padding_value, include, group_size, embeddings
    )[0]  # fmt: skip


def _decide(
    model: nn.Module, weights: PairChoice, activations: PairChoice, scale: Scale, accumulator: Accumulator | None,
    keep: Keep, example: Any, padding_value: int, include: Include, group_size: int | None, embeddings: bool,
) -> tuple[Plan, list[Decision]]:  # fmt: skip
    if not isinstance(getattr(model, "binarization", None), Plan | None):
        raise ValueError(
            f"binarize() keeps its plan as model.binarization, but this {type(model).__name__} has an attribute or a "
            "child of that name: rename it"
        )
    if weights is None:
        raise TypeError("weights takes a pair or a mapping from patterns to pairs; got None")
    embeddings = boolean(embeddings, "embeddings")
    layers = survey(model, include, embeddings)
    weight_pairs = resolve_choice(weights, layers, "weights")
    input_pairs = {p: pair_of_inputs(a) for p, a in resolve_choice(activations, layers, "activations").items()}
    require_binary_input(accumulator, *input_pairs.values())
    for pair, own_scale in [*((p, scale) for p in weight_pairs.values()), *((p, None) for p in input_pairs.values())]:
        Quantizer(pair or "bc", own_scale)  # raises for a scale or a pair that no layer can have
    require_padding_value(padding_value)
    if padding_value and not any(input_pairs.values()):
        raise ValueError(f"padding_value {padding_value} is for binary inputs: pass activations too, or leave it 0")
    watched = [layer for layer in layers if layer.is_product]  # an edge may stay float for other reasons
    flow = None if example is None or not watched else trace(model, watched, example)
    reasons = kept(keep, layers, lambda: registered_edges(model, layers) if flow is None else flow.edges())
    bypassed, one_sign = (set(), set()) if flow is None else (flow.bypassed(), flow.of_one_sign())
    float_for = float_inputs(model, bypassed)
    float_for |= {layer.module: INDICES for layer in layers if layer.form is BinaryEmbedding}
    decided = (_decision(layer, weight_pairs, input_pairs, reasons, float_for, one_sign) for layer in layers)
    decisions = agreed([*decided])
    for argument, index, choice in (("weights", 1, weight_pairs), ("activations", 2, input_pairs)):
        require_effect(choice, layers, {d[0].name: d[3] for d in decisions if d[index] is None}, argument)
    if embeddings:
        require_embedding(decisions)
    require_groups(group_size, scale)
    _require_divisible(group_size, decisions)
    rows = []
    for layer, *pairs, reason in decisions:
        weight_name, input_name = (None if pair is None else pair.name for pair in pairs)
        rows.append(Row(layer.name, type(layer.module).__name__, weight_name, input_name, reason, layer.names[1:]))
    return Plan(tuple(rows), scale, accumulator, padding_value, group_size), decisions


def _require_divisible(group_size: int | None, decisions: list[Decision]) -> None:
    """Raise the error of `require_divisible` for the first layer that groups do not suit, with its name."""
    for layer, pair, input_pair, _ in decisions:
        if pair is not None and layer.form is not None:
            try:
                sizes = layer.form.row_sizes(layer.module)
                require_divisible(group_size, input_pair, sizes, type(layer.module).__name__)
            except ValueError as error:
                raise ValueError(f"layer {layer.name!r}: {error}") from None


def _decision(
    layer: WeightLayer, weights: dict[str, AnyPair | None], activations: dict[str, AnyPair | None],
    kept_for: dict[str, str], float_for: dict[nn.Module, str], one_sign: set[nn.Module],
) -> Decision:  # fmt: skip
    pattern = first_match(layer, weights)
    pair = None if pattern is None else weights[pattern]
    reason = layer.obstacle or kept_for.get(layer.name, "")
    if reason or pair is None:
        unfit = "weights: no pattern fits it" if pattern is None else f"weights: {pattern!r} says float"
        return layer, None, None, reason or unfit
    input_pattern = first_match(layer, activations)
    input_pair = None if input_pattern is None else activations[input_pattern]
    if input_pair is not None and layer.module in float_for:
        return layer, pair, None, float_for[layer.module]
    return layer, pair, input_pair, ONE_SIGN if input_pair and layer.module in one_sign else ""
