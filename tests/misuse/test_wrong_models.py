"""Models, layers and inputs used wrongly: what is said, each time."""

import numpy
import pytest
import torch
from refusals import Wrong, is_refused
from subjects import binary, images, net, packed, rows, sgd
from torch import nn
from torch.nn.utils import parametrizations, prune

import proxconnect as pc

TAKES = "takes an nn.Module as model; got "
EXAMPLE = "It must be what the model takes: a tensor, a tuple of positional arguments"


def pruned(model: nn.Module) -> nn.Module:
    prune.l1_unstructured(model[2], "weight", 0.5)
    return model


def normed(model: nn.Module) -> nn.Module:
    parametrizations.weight_norm(model[2])
    return model


def layer(**options) -> nn.Module:
    return pc.BinaryLinear(8, 4, **options)


WRONG = {
    "binarize: a class": Wrong(lambda: pc.binarize(nn.Linear), TypeError, f"{TAKES}type"),
    "binarize: None": Wrong(lambda: pc.binarize(None), TypeError, f"{TAKES}NoneType"),
    "binarize: a state dict": Wrong(lambda: pc.binarize(net().state_dict()), TypeError, f"{TAKES}OrderedDict"),
    "binarize: parameters": Wrong(lambda: pc.binarize(net().parameters()), TypeError, f"{TAKES}generator"),
    "binarize: optimizer first": Wrong(lambda: pc.binarize(sgd(net()), net()), TypeError, f"{TAKES}SGD"),
    "binarize: twice": Wrong(lambda: pc.binarize(binary()), ValueError, "the model is binary already (2)"),
    "binarize: packed": Wrong(lambda: pc.binarize(packed()), ValueError, "Binarize the float model that it was made"),
    "binarize: no layer": Wrong(lambda: pc.binarize(nn.ReLU()), ValueError, "no layer would become binary"),
    "binarize: edges alone": Wrong(
        lambda: pc.binarize(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))), ValueError, "pass keep=None"
    ),
    "binarize: lazy": Wrong(
        lambda: pc.binarize(nn.Sequential(nn.LazyLinear(4), nn.Linear(4, 4), nn.Linear(4, 2))), ValueError,
        "run it once on an example, then binarize",
    ),
    "binarize: pruned": Wrong(lambda: pc.binarize(pruned(net())), ValueError, "pruned"),
    "binarize: weight norm": Wrong(lambda: pc.binarize(normed(net())), ValueError, "no layer would become binary"),
    "binarize: misspelt keyword": Wrong(lambda: pc.binarize(net(), weight="bnn"), TypeError, "'weight'"),
    "weights: unknown": Wrong(lambda: pc.binarize(net(), "bnn+++"), ValueError, "did you mean 'bnn++'"),
    "weights: upper case": Wrong(lambda: pc.binarize(net(), "BNN++"), ValueError, "did you mean 'bnn++'"),
    "weights: a number": Wrong(lambda: pc.binarize(net(), 1), TypeError, "a pair is a name of PAIRS"),
    "weights: a class": Wrong(lambda: pc.binarize(net(), pc.Pair), TypeError, "a pair is a name of PAIRS"),
    "weights: a function": Wrong(lambda: pc.binarize(net(), torch.sign), TypeError, "a pair is a name of PAIRS"),
    "weights: a list": Wrong(lambda: pc.binarize(net(), ["bnn", "bc"]), TypeError, "got list"),
    "weights: None": Wrong(lambda: pc.binarize(net(), None), TypeError, "a mapping from patterns to pairs"),
    "weights: empty mapping": Wrong(lambda: pc.binarize(net(), {}), ValueError, "the mapping is empty; pass a pair"),
    "weights: pattern of no layer": Wrong(lambda: pc.binarize(net(), {"fc*": "bnn"}), ValueError, "near names are '0'"),
    "weights: index as pattern": Wrong(lambda: pc.binarize(net(), {2: "bnn"}), TypeError, "a pattern is a string"),
    "weights: class as pattern": Wrong(lambda: pc.binarize(net(), {nn.Linear: "bnn"}), TypeError, "got type"),
    "activations: unknown": Wrong(lambda: binary(activations="relu"), ValueError, "unknown pair 'relu'"),
    "activations: a module": Wrong(lambda: binary(activations=nn.ReLU()), TypeError, "got ReLU"),
    "scale: unknown": Wrong(lambda: binary(scale="layer"), ValueError, "scale must be 'channel', 'tensor'"),
    "scale: a number": Wrong(lambda: binary(scale=1.0), ValueError, "got 1.0"),
    "accumulator: bits alone": Wrong(
        lambda: binary(activations="poly", accumulator=8), TypeError, "as Accumulator(bits=8); got int"
    ),
    "accumulator: the class": Wrong(
        lambda: binary(activations="poly", accumulator=pc.Accumulator), TypeError, "as Accumulator(bits=8); got type"
    ),
    "accumulator: float inputs": Wrong(
        lambda: binary(accumulator=pc.Accumulator(8)), ValueError, "needs binary inputs: pass activations too"
    ),
    "keep: unknown": Wrong(lambda: binary(keep=["head"]), ValueError, "the pattern 'head' fits no layer"),
    "keep: a number": Wrong(lambda: binary(keep=3), TypeError, "keep takes 'edges', globs on layer names"),
    "keep: a class": Wrong(
        lambda: binary(keep=nn.Linear), TypeError, "got Linear: keep=lambda name, module: isinstance(module, Linear)"
    ),
    "keep: a module": Wrong(
        lambda: binary(keep=nn.ReLU()), TypeError, "got ReLU: keep=lambda name, module: isinstance(module, ReLU)"
    ),
    "keep: a function of the name": Wrong(
        lambda: binary(keep=lambda name: name == "2"), TypeError, "in your keep(name, module), which is called for each"
    ),
    "keep: modules": Wrong(lambda: binary(keep=[nn.Linear(2, 2)]), TypeError, "a glob on layer names; got Linear"),
    "padding: 2": Wrong(
        lambda: pc.binarize(images(), activations="poly", padding_value=2), ValueError, "must be 0, 1 or -1; got 2"
    ),
    "padding: float inputs": Wrong(
        lambda: pc.binarize(images(), padding_value=1), ValueError, "pass activations too, or leave it 0"
    ),
    "include: an instance": Wrong(lambda: binary(include=nn.Linear(2, 2)), TypeError, "include takes subclasses"),
    "include: a name": Wrong(lambda: binary(include="Linear"), TypeError, "got 'Linear'"),
    "example: numpy": Wrong(lambda: binary(example=rows().numpy()), TypeError, EXAMPLE),
    "example: a shape": Wrong(lambda: binary(example=(4, 8)), TypeError, EXAMPLE),
    "example: another width": Wrong(lambda: binary(example=rows(9)), RuntimeError, EXAMPLE),
    "example: integers": Wrong(lambda: binary(example=torch.zeros(4, 8).long()), RuntimeError, EXAMPLE),
    "example: a list": Wrong(lambda: binary(example=[rows()]), TypeError, EXAMPLE),
    "plan: None": Wrong(lambda: pc.plan(None), TypeError, f"plan(model, weights) {TAKES}NoneType"),
    "plan: packed": Wrong(lambda: pc.plan(packed()), ValueError, "Binarize the float model that it was made from"),
    "layer: no weights": Wrong(lambda: layer(weights=None), TypeError, "a pair is a name of PAIRS"),
    "layer: unknown pair": Wrong(lambda: layer(weights="sgn"), ValueError, "unknown pair 'sgn'"),
    "layer: accumulator alone": Wrong(
        lambda: pc.BinaryConv2d(3, 4, 3, accumulator=pc.Accumulator()), ValueError, "pass activations too"
    ),
    "layer: parameter as weight": Wrong(
        lambda: setattr(layer(), "weight", nn.Parameter(torch.ones(4, 8))), TypeError, "name `latent` instead"
    ),
    "accumulator: 1 bit": Wrong(lambda: pc.Accumulator(1), ValueError, "bits must be an integer from 2 to 24; got 1"),
    "accumulator: 8.0 bits": Wrong(lambda: pc.Accumulator(8.0), TypeError, "bits takes a whole number; got 8.0"),
    "accumulator: unknown overflow": Wrong(lambda: pc.Accumulator(8, "clip"), ValueError, "one of wrap, saturate"),
    "accumulator: negative slope": Wrong(lambda: pc.Accumulator(8, "cyclic", -1), ValueError, "must be positive"),
    "accumulator: slope in words": Wrong(
        lambda: pc.Accumulator(8, "cyclic", "2"), TypeError, "slope takes a number; got str"
    ),
    "input: integers to binary": Wrong(
        lambda: layer(activations="poly")(torch.zeros(4, 8).long()), TypeError, "a float tensor; got torch.int64"
    ),
    "input: numpy to binary": Wrong(
        lambda: layer(activations="poly")(rows().numpy()), TypeError, "a Quantizer takes a float tensor; got ndarray"
    ),
    "input: None to binary": Wrong(lambda: layer(activations="poly")(None), TypeError, "got NoneType"),
    "input: integers to packed": Wrong(
        lambda: pc.pack(layer(activations="poly"))(torch.zeros(4, 8).long()), TypeError, "a float tensor; got torch.int"
    ),
    "input: numpy to packed": Wrong(
        lambda: pc.pack(layer(activations="poly"))(rows().numpy()), TypeError, "a float tensor; got ndarray"
    ),
    "input: numpy to packed weights": Wrong(
        lambda: pc.pack(layer())(rows().numpy()), TypeError, "must be Tensor, not numpy.ndarray"
    ),
    "input: width of packed": Wrong(
        lambda: pc.pack(layer(activations="poly"))(rows(16)), ValueError, "input must be (…, 8); got (4, 16)"
    ),
    "input: small for packed": Wrong(
        lambda: pc.pack(pc.BinaryConv2d(3, 4, 3, activations="poly"))(torch.ones(1, 3, 2, 2)), ValueError,
        "larger than the padded input (2, 2)",
    ),
    "parameter: no module": Wrong(lambda: pc.binarize_parameter(None, "w"), TypeError, f"{TAKES}NoneType"),
    "parameter: dotted": Wrong(
        lambda: pc.binarize_parameter(net(), "2.weight"), ValueError, "Pass the module that owns it"
    ),
    "parameter: itself": Wrong(
        lambda: pc.binarize_parameter(net()[0], net()[0].weight), TypeError, "takes the name of a parameter"
    ),
    "parameter: of a binary layer": Wrong(
        lambda: pc.binarize_parameter(binary()[2], "latent"), TypeError, "is binary already"
    ),
    "parameter: no such dimension": Wrong(
        lambda: pc.binarize_parameter(nn.Embedding(4, 4), "weight", channel_dims=(5,)), ValueError, "channel_dims (5,)"
    ),
    "thresholds: of a float model": Wrong(lambda: pc.add_thresholds(net()), ValueError, "call binarize(model"),
    "thresholds: of float inputs": Wrong(lambda: pc.add_thresholds(binary()), ValueError, "no layer has binary inputs"),
    "meters: of a packed model": Wrong(lambda: pc.Meters(packed()), ValueError, "call proxconnect.binarize(model)"),
    "summary: a class": Wrong(lambda: pc.summary(nn.Linear), TypeError, f"summary(model, example) {TAKES}type"),
    "summary: a shape": Wrong(lambda: pc.summary(net(), (1, 8)), TypeError, EXAMPLE),
    "summary: numpy": Wrong(lambda: pc.summary(net(), numpy.ones((1, 8))), TypeError, EXAMPLE),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_use_of_a_model_is_refused(name):
    is_refused(WRONG[name])
