"""The grid that asks what decides between BNN++ and BNN+ has the study's network and loop at one end."""

from pathlib import Path

import pytest
import torch
from torch import nn

from proxconnect._support.user_code import load
from proxconnect.training.models.residual import PublishedBlock, ResidualConv, bireal_resnet20
from proxconnect.training.study import yaml_files
from proxconnect.training.study.grid import Grid
from proxconnect.training.study.grid_rows import rows_of

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "studies" / "bnn_plus_plus"

pytestmark = pytest.mark.usefixtures("in_the_repository")


@pytest.fixture
def rows():
    return {tuple(row.labels.values()): row.configuration for row in rows_of(Grid.read(FOLDER / "grid.yaml"))}


def built(configuration):
    network = configuration["model"]["network"]
    torch.manual_seed(0)
    return load(network["name"])(**network.get("options", {}))


def test_the_network_of_the_study_is_that_of_the_study_of_record(rows):
    ours = built(rows["0", "BW", "study", "study", "bnn++"]).state_dict()
    torch.manual_seed(0)
    theirs = bireal_resnet20(in_channels=1, classes=10, width=8, stem_stride=2).state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_loop_of_the_study_is_that_of_the_study_of_record(rows):
    ours = rows["0", "BW", "study", "study", "bnn++"]
    theirs = yaml_files.read(ROOT / "studies" / "fashion-mnist" / "base.yaml")
    for key in ("optimizer", "schedule"):
        assert ours["model"][key] == theirs["model"][key]
    assert ours["trainer"] == theirs["trainer"]
    assert ours["data"]["init_args"] == theirs["data"]["init_args"] | {"validation": 10000}


@pytest.mark.parametrize(("mode", "block", "shortcuts"), [("BW", PublishedBlock, 6), ("BWA", ResidualConv, 12)])
def test_the_network_of_the_probe_has_twelve_binary_convolutions_of_growing_width(rows, mode, block, shortcuts):
    network = built(rows["0", mode, "probe", "probe", "bnn++"])
    assert [type(child) for child in network.stages] == [block] * shortcuts
    convs = [module for module in network.stages.modules() if isinstance(module, nn.Conv2d)]
    assert [conv.out_channels for conv in convs] == [8] * 4 + [16] * 4 + [32] * 4
    assert [conv.stride for conv in convs if conv.stride != (1, 1)] == [(2, 2)] * 2
    nonlinear = [module for module in network.stages.modules() if isinstance(module, nn.ReLU | nn.PReLU)]
    assert len(nonlinear) == (12 if mode == "BW" else 0)
    assert network(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
