"""Files of every format, run by their runtimes, give the answers of the packed network."""

import functools
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
import transformers
from torch import Tensor, nn

import proxconnect as pc
from networks import NETWORKS, SIZES, Wave, images, of_timm, sentences
from proxconnect._support.example import tensors_in
from proxconnect.cli.networks import difference, run, with_batch
from proxconnect.export import to_onnx, to_openvino, to_qonnx
from proxconnect.export.formats import FORMATS, by_onnx_runtime, by_openvino, by_qonnx
from proxconnect.export.onnx import OPSET
from proxconnect.training.models.bireal import BiRealNet
from thorough import thorough_but

BOTH = {"activations": "bnn"}
OVERFLOWS = {"plain.0": "wrap", "grouped": "saturate", "up": "cyclic", "head.0": "wrap"}
"""One on each layer of `Small`; a format writes them alike after every layer."""

TOLERANCE = 2e-5


class Small(nn.Module):
    """A binary convolution of each kind that formats tell apart, and a binary head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.plain = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1, stride=2), nn.BatchNorm2d(16), nn.PReLU())
        self.grouped = nn.Conv2d(16, 12, 3, padding=1, groups=2, dilation=2)
        self.up = nn.ConvTranspose2d(12, 6, 3, stride=2, groups=3)
        self.head = nn.Sequential(nn.Linear(6, 7), nn.Linear(7, 5))

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.up(self.grouped(self.plain(self.stem(image)))).mean((2, 3)))


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "gguf"])  # which holds language models
def test_scales_of_groups(name: str, tmp_path: Path) -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(12, 8), nn.Linear(8, 6), nn.Linear(6, 4))

    packed = pc.pack(pc.binarize(build(), "bc", group_size=4).eval())
    path, example = tmp_path / ("net.xml" if name == "openvino" else "net.onnx"), torch.randn(3, 12)
    FORMATS[name].write(packed, example, path)
    (answer,) = FORMATS[name].run(path, build)(example)
    torch.testing.assert_close(answer, packed(example), rtol=TOLERANCE, atol=TOLERANCE)


class Tied(nn.Module):
    """An embedding, whose rows are whole bytes or not, and a head that is tied to it."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.words, self.norm = nn.Embedding(21, dim), nn.LayerNorm(dim)
        self.body, self.head = nn.Linear(dim, dim), nn.Linear(dim, 21, bias=False)
        self.head.weight = self.words.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.norm(self.body(self.words(ids))))


@pytest.mark.covering(together=("name dim",))
@pytest.mark.parametrize("name", [name for name in FORMATS if name != "gguf"])
@pytest.mark.parametrize("dim", [16, 12])
@pytest.mark.parametrize("options", [{}, {"group_size": 4}, {"scale": "tensor"}, {"scale": None}], ids=str)
def test_a_binary_embedding_and_a_tied_head(name: str, dim: int, options: dict[str, Any], tmp_path: Path) -> None:
    packed = pc.pack(pc.binarize(Tied(dim), "bc", keep=None, embeddings=True, **options).eval())
    path, example = tmp_path / ("net.xml" if name == "openvino" else "net.onnx"), torch.randint(21, (3, 5))
    FORMATS[name].write(packed, example, path)
    (answer,) = FORMATS[name].run(path, lambda: Tied(dim))(example)
    torch.testing.assert_close(answer, packed(example), rtol=TOLERANCE, atol=TOLERANCE)
    other = FORMATS[name].run(path, lambda: Tied(dim))(example.flip(1))[0]
    torch.testing.assert_close(other, packed(example.flip(1)), rtol=TOLERANCE, atol=TOLERANCE)


class Words(nn.Module):
    """An embedding, and a binary layer."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.inner = nn.Embedding(11, 6), nn.Linear(6, 4)

    def forward(self, numbers: Tensor) -> Tensor:
        return self.inner(self.words(numbers))


def bert() -> nn.Module:
    config = transformers.BertConfig(num_labels=5, **SIZES | {"num_hidden_layers": 1})
    return transformers.BertForSequenceClassification(config)


BUILT = {
    "Small": (Small, lambda: torch.randn(3, 3, 8, 8)),
    "Words": (Words, lambda: torch.randint(11, (3, 5))),
    "DeiT": (of_timm("deit_tiny_patch16_224", img_size=32, depth=1, embed_dim=24), images(32)),
    "BERT": (bert, sentences),
    "Wave": (Wave, NETWORKS["Wave"].example),
}
"""Networks of one block, because a second block is written like the first."""


@dataclass(frozen=True)
class Case:
    """A network, the options of `binarize` and `pack`, and the overflow of each layer's accumulator."""

    name: str
    mode: dict[str, Any]
    packing: dict[str, Any]
    overflows: Mapping[str, str] = field(default_factory=dict)

    def packed(self) -> tuple[nn.Module, Any]:
        build, example_of = BUILT[self.name]
        model, example = build(), example_of()
        pc.binarize(model.train(), example=example, **self.mode)
        for name, overflow in self.overflows.items():
            model.get_submodule(name).accumulator = pc.Accumulator(3, overflow)
        with torch.no_grad():
            run(model, example)  # batch norms see something
        return pc.pack(model.eval(), **self.packing), example


CASES = {
    "BW": Case("Small", {}, {}),
    "BW without scale": Case("Small", {"scale": None}, {}),
    "BWA": Case("Small", BOTH, {}),
    "BWA padded by signs": Case("Small", BOTH | {"padding_value": -1}, {}),
    "BWAA": Case("Small", BOTH, {}, OVERFLOWS),
    "8-bit remainder": Case("Small", {}, {"remainder": "int8", "vectors": "float16"}),
    "8-bit embedding": Case("Words", {"keep": ()}, {"remainder": "int8"}),
    "DeiT, BWA": Case("DeiT", BOTH, {}),
    "BERT": Case("BERT", {}, {}),
    "Wave": Case("Wave", {}, {}),
}


@pytest.fixture(scope="module")
def packed_of() -> Callable[[str], tuple[nn.Module, Any]]:
    """The packed network of a case with its example, made once for all formats."""
    return functools.cache(lambda name: CASES[name].packed())


NOT_AS_RESNET = [name for name in CASES if name != "BWA"]
"""Zeros around signs without an accumulator are in the ResNet below, other convolutions of signs in other cases."""


def near(model: nn.Module, example: Any, answers: list[Tensor]) -> None:
    """Up to the order of a float sum."""
    with torch.no_grad():
        expected = tensors_in(run(model, example))
    size = max(float(tensor.abs().max()) for tensor in expected)
    assert difference(expected, answers) <= TOLERANCE * size


OF_ONNX = "BWA padded by signs", "BWAA", "8-bit remainder", "8-bit embedding", "BERT", "Wave"


@pytest.mark.parametrize("name", thorough_but(OF_ONNX, NOT_AS_RESNET))
def test_onnx_runtime_answers_alike_for_any_batch(name: str, packed_of: Any, tmp_path: Path) -> None:
    packed, example = packed_of(name)
    to_onnx(packed, with_batch(example, 1), tmp_path / "net.onnx")
    onnx.checker.check_model(onnx.load(tmp_path / "net.onnx"), full_check=True)
    run_file = by_onnx_runtime(tmp_path / "net.onnx")
    for size in (1, 4):
        near(packed, with_batch(example, size), run_file(with_batch(example, size)))
    require_standard_operators(onnx.load(tmp_path / "net.onnx"))


def require_standard_operators(model: onnx.ModelProto) -> None:
    assert {node.domain for node in model.graph.node} == {""}
    assert [(o.domain, o.version) for o in model.opset_import] == [("", OPSET)]
    assert not model.functions


OF_QONNX = [name for name in CASES if name not in ("8-bit remainder", "BERT", "DeiT, BWA")]


@pytest.mark.parametrize("name", thorough_but(("BW without scale", "BWAA"), OF_QONNX))
def test_qonnx_answers_alike(name: str, packed_of: Any, tmp_path: Path) -> None:
    packed, example = packed_of(name)
    to_qonnx(packed, example, tmp_path / "net.onnx")
    near(packed, example, by_qonnx(tmp_path / "net.onnx")(example))
    counts = Counter(node.op_type for node in onnx.load(tmp_path / "net.onnx").graph.node)
    layers = len(packed.binarization.binary)
    assert counts["BipolarQuant"] == layers * (2 if "activations" in CASES[name].mode else 1)


OF_OPENVINO = "BW without scale", "BWA padded by signs", "BWAA", "8-bit remainder", "DeiT, BWA"


@pytest.mark.parametrize("name", thorough_but(OF_OPENVINO, NOT_AS_RESNET))
def test_openvino_answers_alike(name: str, packed_of: Any, tmp_path: Path) -> None:
    packed, example = packed_of(name)
    to_openvino(packed, example, tmp_path / "net.xml")
    near(packed, example, by_openvino(tmp_path / "net.xml")(example))


def test_openvino_takes_any_batch_where_it_is_asked_to(packed_of: Any, tmp_path: Path) -> None:
    packed, example = packed_of("BWA")
    to_openvino(packed, example, tmp_path / "net.xml", any_batch=True)
    run_file = by_openvino(tmp_path / "net.xml")
    for size in (1, 4):
        near(packed, with_batch(example, size), run_file(with_batch(example, size)))


@pytest.fixture(scope="module")
def resnet() -> tuple[nn.Module, Tensor]:
    """A network large enough for sizes to count: a Bi-Real ResNet-18 with the first block of each stage."""
    torch.manual_seed(0)
    example = torch.randn(2, 3, 32, 32)
    model = pc.binarize(BiRealNet((1, 1, 1, 1)).train(), example=example, **BOTH)
    with torch.no_grad():
        model(example)
    return model.eval(), example


def test_an_onnx_file_is_as_small_as_the_packed_one(resnet: Any, tmp_path: Path) -> None:
    model, example = resnet
    packed = pc.pack(model, vectors="float16", remainder="int8")
    pc.save(packed, tmp_path / "net.safetensors")
    to_onnx(packed, example, tmp_path / "net.onnx")
    size, expected = ((tmp_path / f"net.{suffix}").stat().st_size for suffix in ("onnx", "safetensors"))
    assert size <= 1.05 * expected
    near(packed, example, by_onnx_runtime(tmp_path / "net.onnx")(example))


def test_openvino_has_a_binary_convolution_for_each(resnet: Any, tmp_path: Path) -> None:
    import openvino

    model, example = resnet
    packed = pc.pack(model, vectors="float16")
    pc.save(packed, tmp_path / "net.safetensors")
    to_openvino(packed, example, tmp_path / "net.xml")
    network = openvino.Core().read_model(tmp_path / "net.xml")
    counts = Counter(node.get_type_name() for node in network.get_ops())
    assert (counts["BinaryConvolution"], counts["Convolution"]) == (len(model.binarization.binary), 1)
    near(packed, example, by_openvino(tmp_path / "net.xml")(example))
    assert FORMATS["openvino"].size(tmp_path / "net.xml") <= 1.1 * (tmp_path / "net.safetensors").stat().st_size
