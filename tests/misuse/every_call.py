"""A right call of everything public, from which wrong ones are made, argument by argument."""

from collections.abc import Callable
from operator import attrgetter
from typing import Any

import torch
from subjects import binary, net, packed, rows, saved, sgd
from torch import nn

import proxconnect as pc
from proxconnect import export, layers, pairs, theory, training
from proxconnect.pairs import prox, transform

Arguments = dict[str, Any]

ROOMS = {"pc": pc, "layers": layers, "pairs": pairs, "theory": theory, "training": training, "export": export}

RESULTS = {
    "pc.PAIRS", "pc.PackedFileError", "pc.Plan", "pc.ProofError", "pc.Summary", "pc.Trouble",
    "pairs.PAIRS", "pairs.SURROGATES", "pairs.AnyPair",
    "pairs.ForwardBackward", "pairs.Prox", "pairs.Transform",  # bases without arguments
    "pairs.prox", "pairs.transform",  # modules
    "theory.Certificate", "theory.ProbeError", "theory.UnboundedForwardWarning", "theory.Verdict",
    "export.ExportError", "layers.BinaryLayer", "layers.BinaryTransposedLinear",
}  # fmt: skip
"""What nobody calls: results, errors, bases, tables."""


def _with_optimizer(scale: str | None = "channel", **more: Any) -> Arguments:
    model = binary("pc", scale=scale)
    return {"optimizer": sgd(model), "model": model} | more


def _readings() -> Arguments:
    meters = pc.Meters(binary())
    meters.read()
    return {"readings": meters.layers(), "loss": 1.0, "progress": 0.5}


def _trajectory() -> Arguments:
    latents, row, table = torch.rand(3, 4).double(), torch.ones(2).double(), torch.rand(2, 4).double()
    return {"latents": latents, "mu": torch.ones(3).double(), "learning_rates": row, "updates": table,
            "gradients": None, "weights": None, "resolution": 1e-16}  # fmt: skip


def _parameter() -> nn.Module:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.randn(4, 8))

    return Own()


def _layer(**own: Any) -> Callable[[], Arguments]:
    return lambda: own | {"bias": True, "weights": "bnn++", "activations": "bnn", "scale": "channel",
                           "accumulator": None, "group_size": None}  # fmt: skip


def _convolution(**more: Any) -> Callable[[], Arguments]:
    return _layer(in_channels=2, out_channels=3, kernel_size=3, stride=1, padding=0, **more)


def _binarize() -> Arguments:
    return {"model": net(), "weights": "bnn++", "activations": None, "scale": "channel", "accumulator": None,
            "keep": "edges", "example": rows(), "padding_value": 0, "include": (),
            "group_size": None, "embeddings": False}  # fmt: skip


def _written(**options: Any) -> Callable[[], Arguments]:
    return lambda: {"packed": packed(), "example": rows(), "path": "network.out"} | options


def _language() -> Arguments:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE({"a": 0, "</s>": 1, "aa": 2}, [("a", "a")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    config = LlamaConfig(
        vocab_size=3, hidden_size=128, intermediate_size=128, num_hidden_layers=1, num_attention_heads=2, eos_token_id=1
    )
    return {"model": pc.binarize(LlamaForCausalLM(config), "bc"), "path": "network.gguf",
            "tokenizer": PreTrainedTokenizerFast(tokenizer_object=tokenizer), "remainder": "float16"}  # fmt: skip


def _bop() -> Arguments:
    model = HELD.setdefault("model", binary("bc"))  # Bop finds the latents of living layers alone
    return {"params": model.parameters(), "others": torch.optim.Adam, "threshold": 1e-8, "gamma": 1e-4}


HELD: dict[str, nn.Module] = {}

CALLS: dict[str, Callable[[], Arguments]] = {
    "pc.Accumulator": lambda: {"bits": 8, "overflow": "wrap", "slope": 2.0, "derivative": "exact"},
    "pc.BinaryConv1d": _convolution(padding_value=0),
    "pc.BinaryConv2d": _convolution(padding_value=0),
    "pc.BinaryConv3d": _convolution(padding_value=0),
    "pc.BinaryConvTranspose1d": _convolution(),
    "pc.BinaryConvTranspose2d": _convolution(),
    "pc.BinaryConvTranspose3d": _convolution(),
    "pc.BinaryEmbedding": lambda: {
        "num_embeddings": 4,
        "embedding_dim": 8,
        "weights": "bnn++",
        "scale": "channel",
        "group_size": None,
    },
    "pc.BinaryLinear": _layer(in_features=4, out_features=3, device=None, dtype=None),
    "pc.BinaryMultiheadAttention": _layer(embed_dim=8, num_heads=2),
    "layers.BinaryParameter": lambda: {"parameter": nn.Parameter(torch.randn(3, 4)), "channel_dims": (0,)},
    "layers.PReLU": lambda: {"num_parameters": 4},
    "layers.RPReLU": lambda: {"channels": 4},
    "layers.Shift": lambda: {"channels": 4, "dim": 1, "device": None, "dtype": None},
    "pc.Bop": _bop,
    "pc.Heuristic": lambda: {
        "name": "own",
        "forward": lambda x, mu: x,
        "backward": lambda x, mu: torch.ones_like(x),
        "sharpness": pairs.Sharpness(),
        "doc": "",
    },
    "pc.Meters": lambda: {"model": binary()},
    "pc.OverflowPenalty": lambda: {"model": binary(activations="bnn", accumulator=pc.Accumulator())},
    "pc.Pair": lambda: {"name": "own", "prox": prox.sign, "transform": transform.identity, "doc": ""},
    "pairs.Sharpness": lambda: {"lowest": 0.0, "start": 1.0, "end": 2.0, "fixed": 1.5},
    "pairs.resolve": lambda: {"pair": "bnn"},
    "pc.Quantizer": lambda: {"pair": "pc", "scale": "channel", "mu": 2.0, "channel_dims": (0,), "magnitude": 1.0},
    "pc.Sharpening": lambda: _with_optimizer(steps=5, start=1.0, end=2.0, shape="linear", hold=1, part="weights"),
    "pc.UpdateRule": lambda: _with_optimizer(quantises=True, overwrites=True),
    "pc.add_thresholds": lambda: {"model": binary(activations="bnn"), "start": 0.5},
    "pc.binarize": _binarize,
    "pc.plan": _binarize,
    "pc.binarize_parameter": lambda: {
        "module": _parameter(),
        "name": "table",
        "weights": "bnn",
        "scale": "channel",
        "channel_dims": (0,),
    },
    "pc.clip_latents": lambda: _with_optimizer(bound=1.0),
    "pc.diagnose": _readings,
    "pc.full_precision": lambda: {"model": binary()},
    "pc.hard": lambda: {"model": binary()},
    "pc.soft": lambda: {"model": binary()},
    "pc.hard_state_dict": lambda: {"model": binary()},
    "pc.load": lambda: {
        "path": saved(),
        "float_model": net(),
        "inputs": "exact",
        "floats": "torch",
        "device": "cpu",
    },
    "pc.pack": lambda: {
        "model": binary(),
        "inputs": "exact",
        "remainder": "float",
        "vectors": "float32",
        "floats": "torch",
        "example": rows(),
    },
    "pc.post_training": _with_optimizer,
    "pc.proxquant": _with_optimizer,
    "pc.reverse_proxconnect": _with_optimizer,
    "pc.reestimate_batchnorm": lambda: {"model": binary(), "batches": [rows()], "device": None},
    "pc.save": lambda: {"model": packed(), "path": "network.out"},
    "pc.summary": lambda: {"model": binary(), "example": rows()},
    "theory.Recorder": lambda: _with_optimizer(scale=None, entries=8, steps=3, seed=0),
    "theory.Trajectory": _trajectory,
    "theory.Trajectory.from_latents": lambda: {
        "latents": torch.rand(3, 4),
        "learning_rates": 0.1,
        "mu": 1.0,
        "gradients": torch.rand(2, 4),
        "weights": torch.rand(2, 4),
        "resolution": 1e-7,
    },
    "theory.autograd_derivative": lambda: {"function": torch.tanh},
    "theory.average": lambda: {"proxes": [prox.sign, prox.tanh.at(1.0)], "weights": [0.5, 0.5]},
    "theory.certificate": lambda: {
        "trajectory": theory.Trajectory(**_trajectory()),
        "pair": "bnn++",
        "loss": None,
        "at": None,
    },
    "theory.compose": lambda: {"transform": transform.hardtanh, "pair": "bc", "name": "own"},
    "theory.correct": lambda: {"backward": lambda x: torch.exp(-x.square()), "name": "own", "normalise": True},
    "theory.decompose": lambda: {
        "pair_or_forward": torch.tanh,
        "backward": lambda x: 1 - x.tanh() ** 2,
        "mu": None,
        "domain": (-4.0, 4.0),
    },
    "theory.plot_verdict": lambda: {"verdict": theory.decompose("bc")},
    "theory.potential": lambda: {"prox": prox.tanh, "mu": 1.0, "reach": 10.0},
    "theory.prox_of": lambda: {"regularizer": torch.abs, "points": (0.0,)},
    "theory.rescale": lambda: {"pair": "bnn", "inner": 1.0, "outer": 1.0, "name": "own"},
    "theory.synthesize": lambda: {
        "transform": torch.tanh,
        "prox": prox.sign,
        "name": "own",
        "derivative": lambda x: 1 - x.tanh() ** 2,
    },
    "training.Distillation": lambda: {
        "student": binary(),
        "teacher": net(),
        "label_weight": 0.5,
        "logit_weight": 0.5,
        "feature_weight": 1.0,
        "temperature": 2.0,
        "features": ["2"],
        "projections": {"2": nn.Linear(16, 16)},
        "label_loss": nn.functional.cross_entropy,
        "distance": nn.functional.mse_loss,
    },
    "export.to_floats": lambda: {"model": packed(), "path": "network.out"},
    "export.to_gguf": _language,
    "export.to_onnx": _written(any_batch=True),
    "export.to_openvino": _written(path="network.xml", any_batch=False),
    "export.to_qonnx": _written(any_batch=False),
}


def function(name: str) -> Callable[..., Any]:
    """What is public under `name`, as "pc.pack"."""
    room, _, short = name.partition(".")
    found: Callable[..., Any] = attrgetter(short)(ROOMS[room])
    return found


def call(name: str, arguments: Arguments) -> Any:
    """Call what is public under `name`; enter it if it is a context."""
    readings = [arguments.pop("readings")] if "readings" in arguments else []  # of diagnose(*readings)
    result = function(name)(*readings, **arguments)
    if name in ("pc.hard", "pc.soft", "pc.full_precision"):
        with result:
            pass
    return result
