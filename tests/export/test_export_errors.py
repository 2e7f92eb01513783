"""Export errors name the cause, and leave existing files as they are."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import proxconnect as pc
from proxconnect.export import ExportError, to_onnx, to_openvino, to_qonnx


class Deciding(nn.Module):
    """Its forward decides by a value."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, input: Tensor) -> Tensor:
        hidden = self.first(input)
        return self.last(self.second(hidden) if hidden.sum() > 0 else hidden)


def packed(model: nn.Module) -> nn.Module:
    return pc.pack(pc.binarize(model).eval())


@pytest.mark.parametrize("write", [to_onnx, to_qonnx, to_openvino])
def test_a_model_that_is_not_packed_is_refused(write, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"export pc.pack\(model\)"):
        write(pc.binarize(Deciding()).eval(), torch.randn(2, 4), tmp_path / "net.xml")


@pytest.mark.parametrize("write", [to_onnx, to_qonnx, to_openvino])
def test_a_forward_that_decides_by_values_is_refused_and_no_file_is_lost(write, tmp_path: Path) -> None:
    file = tmp_path / "net.xml"
    file.write_text("before")
    with pytest.raises(ExportError, match="makes no graph of Deciding"):
        write(packed(Deciding()), torch.randn(2, 4), file)
    assert [path.name for path in tmp_path.iterdir()] == ["net.xml"]
    assert file.read_text() == "before"


@pytest.mark.parametrize("write", [to_onnx, to_qonnx, to_openvino])
@pytest.mark.parametrize("example", [torch.randn(2, 5), "net.xml", torch.ones(2, 4, dtype=torch.int64), (), {"x": 1}])
def test_a_wrong_example_is_the_example_to_blame(write, example, tmp_path: Path) -> None:
    model = packed(nn.Sequential(*[nn.Linear(4, 4) for _ in range(3)]))
    with pytest.raises((RuntimeError, TypeError, ValueError)) as caught:
        write(model, example, tmp_path / "net.xml")
    assert "`example` was run through the model" in "".join(caught.value.__notes__)
    assert not isinstance(caught.value, ExportError)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("write", [to_onnx, to_qonnx, to_openvino])
def test_swapped_arguments_show_their_order(write, tmp_path: Path) -> None:
    model, input, path = packed(nn.Sequential(*[nn.Linear(4, 4) for _ in range(3)])), torch.randn(2, 4), tmp_path / "a"
    with pytest.raises(TypeError, match=r"to_onnx\(packed, example, path\), takes an nn.Module as model; got Tensor"):
        write(input, model, path.with_suffix(".xml"))
    with pytest.raises(TypeError, match="path takes the name of a file"):
        write(model, str(path), input)


def test_openvino_wants_the_name_of_its_network(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"NAME\.xml and NAME\.bin"):
        to_openvino(packed(nn.Sequential(*[nn.Linear(4, 4) for _ in range(3)])), torch.randn(2, 4), tmp_path / "a.onnx")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        to_onnx(
            packed(nn.Sequential(*[nn.Linear(4, 4) for _ in range(3)])),
            torch.randn(2, 4),
            tmp_path / "nowhere" / "a.onnx",
        )


@pytest.mark.filterwarnings("error:.*LeafSpec")
def test_exporting_changes_nothing_in_the_model(tmp_path: Path) -> None:
    model, input = packed(nn.Sequential(*[nn.Linear(64, 64) for _ in range(3)])), torch.randn(2, 64)
    before = model(input)
    classes = [type(module) for module in model.modules()]
    to_onnx(model, input, tmp_path / "net.onnx")
    assert [type(module) for module in model.modules()] == classes
    assert torch.equal(model(input), before)
