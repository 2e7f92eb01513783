"""A tenth of the networks, what went wrong once and one of most kinds, in one mode each; `make test-sweep` runs all."""

from itertools import cycle
from pathlib import Path

import pytest
import timm

from sweep.flow import MODES, go_through, started
from sweep.run import LIBRARIES, subjects
from sweep.torchvision_models import MODELS as TORCHVISION
from sweep.torchvision_models import module_names

CHOSEN = {
    "timm": (
        "coat_lite_tiny", "convit_tiny", "convnext_atto_rms", "deit_tiny_patch16_224", "dla46x_c",
        "efficientnet_cc_b0_4e", "efficientnet_lite0", "eva02_tiny_patch14_224", "ghostnet_050", "inception_next_atto",
        "legacy_seresnet18", "levit_128s", "mambaout_femto", "mixer_s16_224", "mnasnet_small", "mobilevit_xxs",
        "nf_resnet26", "pit_ti_distilled_224", "poolformer_s12", "resnetv2_18", "sequencer2d_s", "starnet_s050",
        "vit_tiny_patch16_dinov3_qkvb",
    ),
    "torchvision": (
        "deeplabv3_mobilenet_v3_large", "fasterrcnn_mobilenet_v3_large_320_fpn", "googlenet",
        "lraspp_mobilenet_v3_large", "mnasnet0_5", "resnet34", "raft_small", "resnet18", "shufflenet_v2_x0_5",
        "ssdlite320_mobilenet_v3_large", "swin_t",
    ),
    "transformers": ("BERT", "GPT-2", "Mamba", "Mixtral", "T5", "wav2vec 2"),
}  # fmt: skip
NETWORKS = [(library, name) for library, names in CHOSEN.items() for name in names]


@pytest.mark.parametrize(("library", "name", "mode"), [(*one, mode) for one, mode in zip(NETWORKS, cycle(MODES))])
def test_a_network_goes_all_the_way(library: str, name: str, mode: str, tmp_path: Path) -> None:
    if library == "timm" and not timm.is_model(name):
        pytest.skip(f"timm {timm.__version__} has no {name}")
    subject = subjects(library)[name]
    go_through(subject, started(subject), mode, tmp_path)


def test_a_tenth_is_chosen() -> None:
    assert len(NETWORKS) >= sum(len(subjects(library)) for library in LIBRARIES) / 10


def test_all_of_torchvision_is_swept() -> None:
    assert set(TORCHVISION) == set(module_names())


def test_there_are_enough_of_each_library() -> None:
    assert len(subjects("timm")) >= 150
    assert len(subjects("transformers")) >= 25
