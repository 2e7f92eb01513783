"""Networks by name: each of ours is built, and those of timm and torchvision are found."""

import pytest
import torch
from torch import nn

from proxconnect._support import extras
from proxconnect.cli.networks import named
from proxconnect.training.models import names
from proxconnect.training.models.bireal import KEEP
from proxconnect.training.models.names import OURS, find


def classes_of(model: nn.Module) -> int:
    return next(m.out_features for m in reversed(list(model.modules())) if isinstance(m, nn.Linear))


def channels_of(model: nn.Module) -> int:
    return next(m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d))


@pytest.mark.parametrize("name", OURS)
def test_ours_take_their_usual_images(name):
    size = find(name).input_size(find(name).build(classes=3))
    model = find(name).build(classes=3).eval()
    assert model(torch.randn(1, *size)).shape == (1, 3)


@pytest.mark.parametrize("name", OURS)
def test_ours_take_other_channels_and_sizes(name):
    model = find(name).build(classes=3, in_channels=2, image_size=32).eval()
    assert model(torch.randn(1, 2, 32, 32)).shape == (1, 3)


def test_options_are_those_of_the_network():
    assert find("resnet20").build(width=8, stem_stride=2).head.in_features == 32
    assert find("small_vit").build(image_size=32, depth=1, heads=2, dim=16, qk_norm=True).patch_embed.num_patches == 64


@pytest.mark.parametrize(
    ("name", "library"),
    [
        ("resnet18", "timm"), ("timm/resnet18", "timm"), ("torchvision/resnet18", "torchvision"),
        ("vgg11_bn", "timm"), ("shufflenet_v2_x0_5", "torchvision"),
    ],
)  # fmt: skip
def test_others_are_found_in_timm_and_then_in_torchvision(name, library):
    found = find(name)
    assert f"of {library} " in found.title
    with torch.device("meta"):
        model = find(name).build(classes=7)
    assert classes_of(model) == 7
    assert found.input_size(model) == (3, 224, 224)


def test_sizes_reach_others():
    model = find("deit_tiny_patch16_224").build(classes=5, in_channels=1, image_size=32)
    assert model(torch.randn(1, 1, 32, 32)).shape == (1, 5)
    with torch.device("meta"):
        assert channels_of(find("timm/resnet18").build(in_channels=1, image_size=32)) == 1
        assert find("torchvision/vit_b_16").build(image_size=32).image_size == 32


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("resnet81", {}, "no network 'resnet81' in timm and torchvision; near names are 'resnet"),
        ("smal_vit", {}, "near names are 'small_vit'"),
        ("timm/resnet81", {}, "no network 'timm/resnet81' in timm; near names are 'resnet18'"),
        ("tim/resnet18", {}, "no network 'tim/resnet18' in timm and torchvision"),
        ("resnet20", {"witdh": 8}, "takes no 'witdh'; near names are 'width': it takes in_channels, classes, width"),
        ("small_vit", {"dpth": 2}, "small_vit cannot be built: .*dpth"),
        ("small_vit", {"patch": 3}, "patches of 3 do not fill images of 28"),
        ("resnet20", {"pretrained": True}, "no pretrained weights of resnet20"),
        ("torchvision/resnet18", {"in_channels": 1}, "takes images of 3 channels, not 1: name one of timm"),
        ("torchvision/resnet18", {"witdh": 8}, "'resnet18' cannot be built .*witdh"),
    ],
)
def test_what_cannot_be_built_is_said(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        find(name).build(**arguments)


def test_what_usually_stays_float():
    assert find("bireal_resnet18").keep == find("react_resnet18").keep == KEEP
    assert find("resnet20").keep == find("timm/resnet18").keep == ("edges",)


def test_a_missing_library_is_told(monkeypatch):
    def require(module: str, extra: str) -> None:
        raise extras.MissingExtraError(f"run: pip install 'proxconnect[{extra}]'", name=module)

    monkeypatch.setattr(extras, "require", require)
    assert find("resnet20").title == "ResNet-20"
    with pytest.raises(extras.MissingExtraError, match="pip install"):
        find("resnet18")


def test_pretrained_weights_of_torchvision_load_but_for_a_head_of_other_classes(monkeypatch):
    models = pytest.importorskip("torchvision.models")
    theirs = models.squeezenet1_1(weights=None).state_dict()
    monkeypatch.setattr(models.SqueezeNet1_1_Weights, "get_state_dict", lambda self, **options: theirs)
    mine = find("torchvision/squeezenet1_1").build(pretrained=True, classes=7).state_dict()
    assert [key for key in theirs if theirs[key].shape != mine[key].shape] == [
        "classifier.1.weight",
        "classifier.1.bias",
    ]
    assert all(torch.equal(theirs[key], mine[key]) for key in theirs if not key.startswith("classifier"))
    with pytest.raises(ValueError, match="are not of this size"):
        names._take("net", nn.Linear(3, 2), {"weight": torch.zeros(2, 4), "bias": torch.zeros(2)}, None)


def test_bench_measures_them_by_name():
    network = named("react_resnet18")
    assert network.keep == KEEP
    assert [tuple(t.shape) for t in network.example(nn.Identity())] == [(1, 3, 224, 224)]
