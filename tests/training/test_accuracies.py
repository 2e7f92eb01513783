"""The three accuracies against the library's own contexts on copies of the network."""

from copy import deepcopy

import pytest
import torch

import proxconnect as pc
from proxconnect.training.accuracies import Accuracies
from proxconnect.training.models.residual import small_cnn


@pytest.fixture
def images():
    return torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def network(images):
    """A soft network whose batch norm has seen other pictures."""
    torch.manual_seed(0)
    network = pc.binarize(small_cnn(), "bnn++")
    network(3 * images + 1)
    return network


def share(logits, labels):
    return (logits.argmax(1) == labels).float().mean().item()


def test_each_is_what_the_contexts_say(network, images):
    labels = torch.arange(64) % 10
    expected = {}
    with torch.no_grad():
        copy = deepcopy(network).eval()
        expected["accuracy_hard"] = share(copy(images), labels)
        with pc.soft(copy):
            expected["accuracy_soft"] = share(copy(images), labels)
        expected["accuracy"] = share(pc.reestimate_batchnorm(copy, [images]).eval()(images), labels)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    accuracies = Accuracies(network, 10)
    accuracies.begin([images])
    network.eval()
    for part, wanted in zip(images.split(16), labels.split(16), strict=True):
        accuracies.update(part, wanted)
    found = {name: value.item() for name, value in accuracies.end().items()}
    assert found == pytest.approx(expected)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_logits_are_those_of_what_ships(network, images):
    accuracies = Accuracies(network.eval(), 10)
    accuracies.begin([images])
    logits = accuracies.update(images, torch.zeros(64, dtype=torch.long))
    with accuracies.hardened([images]) as shipped:
        packed = pc.pack(shipped.eval())
    torch.testing.assert_close(packed(images), logits)


def test_a_float_network_has_one(images):
    accuracies = Accuracies(small_cnn().eval(), 10)
    accuracies.begin([])
    accuracies.update(images, torch.zeros(64, dtype=torch.long))
    assert list(accuracies.end()) == ["accuracy"]
