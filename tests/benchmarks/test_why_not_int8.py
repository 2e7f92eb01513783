"""benchmarks/why_not_int8.py: files of one network answer alike in all engines, and their accuracy is counted right."""

import copy
import dataclasses
import sys
from pathlib import Path

import numpy
import pytest
import torch
from torch import nn

import proxconnect as pc

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks"))
import artefacts  # noqa: E402
import int8_files  # noqa: E402

sys.path.pop()

CLASSES, WIDTH = 4, 8


def pictures(count: int, seed: int):
    """Return patterns, one for each class, of different brightness in noise, and their labels."""
    chance = torch.Generator().manual_seed(seed)
    patterns = torch.randn(CLASSES, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(CLASSES, (count,), generator=chance)
    brightness = 0.5 + 2 * torch.rand(count, 1, 1, 1, generator=chance)
    return brightness * (patterns[labels] + 3 * torch.randn(count, 3, 6, 6, generator=chance)), labels


def trained(model: nn.Module) -> nn.Module:
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for step in range(30):
        images, labels = pictures(64, 100 + step)
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval().requires_grad_(False)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, WIDTH, 3, padding=1), nn.BatchNorm2d(WIDTH), nn.ReLU(), nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
        nn.BatchNorm2d(WIDTH), nn.ReLU(), nn.Flatten(), nn.Linear(36 * WIDTH, CLASSES),
    )  # fmt: skip


def singles(count: int, seed: int):
    images, labels = pictures(count, seed)
    return [((image[None].numpy(),), int(label)) for image, label in zip(images, labels, strict=True)]


@pytest.fixture(scope="module")
def subject():
    binary = trained(pc.binarize(net(), "bc"))
    networks = {"float": int8_files.Network(trained(net()), net()), "BW": int8_files.Network(binary, net())}
    calibration = [inputs for inputs, _ in singles(50, 1)]
    return int8_files.Subject("net", networks, calibration, singles(200, 2), False)


def answers(artefact, subject, folder: Path):
    torch.save(int8_files.without_weights(net()), folder / artefact.architecture)
    int8_files.WRITERS[artefact](subject, folder)
    answer = artefact.opened(folder)
    assert artefact.bytes(folder) == (folder / artefact.file).stat().st_size
    return numpy.concatenate([answer(inputs) for inputs, _ in subject.test])


def test_a_quantised_network_agrees_with_its_float_one(subject, tmp_path):
    for package in ("onnxruntime", "onnx", "onnxscript"):
        pytest.importorskip(package)
    torch_, onnx, int8 = (
        answers(one, subject, tmp_path) for one in (int8_files.FLOAT, int8_files.ONNX_FLOAT, int8_files.ONNX_STATIC)
    )
    numpy.testing.assert_allclose(onnx, torch_, rtol=1e-4, atol=1e-4)
    assert not numpy.allclose(int8, torch_, rtol=1e-4, atol=1e-4)
    assert (int8.argmax(1) == torch_.argmax(1)).mean() >= 0.97
    assert numpy.quantile(abs(int8 - torch_).max(1) / abs(torch_).max(1), 0.9) < 0.06
    expected = (torch_.argmax(1) == [label for _, label in subject.test]).mean()
    assert 0.8 < expected == artefacts.accuracy(int8_files.FLOAT.opened(tmp_path), subject.test)


def test_a_packed_file_answers_as_the_binary_network(subject, tmp_path):
    plain, int8 = (one for one in int8_files.PACKED if one.mode == "BW")
    images = torch.cat([torch.from_numpy(inputs[0]) for inputs, _ in subject.test])
    expected = subject.networks["BW"].network(images).numpy()
    numpy.testing.assert_allclose(answers(plain, subject, tmp_path), expected, rtol=1e-4, atol=1e-4)
    assert (answers(int8, subject, tmp_path).argmax(1) == expected.argmax(1)).mean() >= 0.98


def test_an_architecture_keeps_its_buffers_and_no_weights():
    model = net()
    bare = int8_files.without_weights(model)
    assert all(parameter.is_meta for parameter in bare.parameters())
    assert not any(buffer.is_meta for buffer in bare.buffers())
    assert not any(parameter.is_meta for parameter in model.parameters())
    copy.deepcopy(bare).load_state_dict(model.state_dict(), assign=True)


def test_files_are_those_of_these_weights(subject, tmp_path, monkeypatch):
    wrote = []
    monkeypatch.setattr(
        int8_files, "WRITERS", {one: lambda *_: wrote.append(1) for one in int8_files.artefacts(subject)}
    )
    folder = int8_files.written(subject, tmp_path)
    count = len(wrote)
    assert int8_files.written(subject, tmp_path) == folder
    assert len(wrote) == count == 7
    other = dataclasses.replace(subject, networks=copy.deepcopy(subject.networks))
    assert int8_files.fingerprint(other) == folder.name
    next(other.networks["BW"].network.parameters()).data[0] += 1
    assert int8_files.written(other, tmp_path) != folder


def test_accuracy_counts_the_largest_logits():
    logits = iter([[0.0, 2.0, 1.0], [3.0, 2.0, 1.0], [0.0, 0.0, 1.0]])
    test = [((numpy.zeros(1),), label) for label in (1, 2, 2)]
    assert artefacts.accuracy(lambda _: numpy.array([next(logits)]), test) == 2 / 3


@pytest.mark.parametrize("logits", [[[0.0, numpy.nan]], [0.0, 1.0], [[0.0, 1.0], [1.0, 0.0]]])
def test_accuracy_refuses_what_is_no_answer_to_one_input(logits):
    with pytest.raises(ValueError, match="finite and of shape"):
        artefacts.accuracy(lambda _: numpy.array(logits), [((numpy.zeros(1),), 0)])
