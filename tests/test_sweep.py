"""A tenth of the networks, what went wrong once and one of most kinds, in one mode each; `make test-sweep` runs all.

A fast run takes those with parts that no other test has.
"""

from pathlib import Path
from typing import Any

import pytest
import timm

from sweep.flow import go_through, started
from sweep.run import LIBRARIES, TABLE, reported, subjects
from sweep.table import written
from sweep.torchvision_models import MODELS as TORCHVISION
from sweep.torchvision_models import module_names
from thorough import thorough_but

CHOSEN = {
    ("timm", "BW"): (
        "coat_lite_tiny", "convnext_atto_rms", "dla46x_c", "ghostnet_050", "mambaout_femto", "mnasnet_small",
        "nf_resnet26", "poolformer_s12", "sequencer2d_s", "vit_tiny_patch16_dinov3_qkvb",
    ),
    ("timm", "BWA"): (
        "convit_tiny", "deit_tiny_patch16_224", "efficientnet_cc_b0_4e", "eva02_tiny_patch14_224",
        "inception_next_atto", "levit_128s", "mixer_s16_224", "mobilevit_xxs", "pit_ti_distilled_224", "resnetv2_18",
        "starnet_s050",
    ),
    ("torchvision", "BW"): (
        "fasterrcnn_mobilenet_v3_large_320_fpn", "lraspp_mobilenet_v3_large", "resnet18",
        "ssdlite320_mobilenet_v3_large",
    ),
    ("torchvision", "BWA"): ("googlenet", "mnasnet0_5", "raft_small", "shufflenet_v2_x0_5"),
    ("transformers", "BW"): ("BERT", "CLIP", "Mamba", "SegFormer", "T5", "Whisper"),
    ("transformers", "BWA"): ("DeBERTa-v2", "GPT-2", "Mixtral", "Swin", "wav2vec 2"),
}  # fmt: skip
NETWORKS = [(library, name, mode) for (library, mode), names in CHOSEN.items() for name in names]
FAST = {
    ("timm", "nf_resnet26", "BW"), ("timm", "vit_tiny_patch16_dinov3_qkvb", "BW"),
    ("timm", "pit_ti_distilled_224", "BWA"), ("timm", "starnet_s050", "BWA"),
    ("torchvision", "fasterrcnn_mobilenet_v3_large_320_fpn", "BW"), ("torchvision", "lraspp_mobilenet_v3_large", "BW"),
    ("torchvision", "shufflenet_v2_x0_5", "BWA"), ("transformers", "Mamba", "BW"),
    ("transformers", "DeBERTa-v2", "BWA"), ("transformers", "wav2vec 2", "BWA"),
}  # fmt: skip
"""Detection, segmentation, recurrences, sound, convolutions that stay float, layers that other code calls."""


@pytest.mark.parametrize(("library", "name", "mode"), thorough_but(FAST, NETWORKS))
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


def test_the_page_is_made_of_the_report() -> None:
    assert TABLE.read_text(encoding="utf-8") == written(reported())


def test_the_page_says_what_failed_and_in_which_mode() -> None:
    def line(name: str, mode: str, said: str = "", error: str | None = None) -> dict[str, Any]:
        versions = {"timm": "1"}
        return {"library": "timm", "name": name, "mode": mode, "said": said, "error": error, "seconds": 60.0} | {
            "versions": versions
        }

    page = written(
        [
            line("b", "BW", said="half"), line("b", "BWA", said="half"), line("A", "BW"),
            line("A", "BWA", error="ValueError: a|b"), line("c", "BW", said="one"), line("c", "BWA", said="other"),
        ]
    )  # fmt: skip
    rows = [text for text in page.splitlines() if "| timm |" in text]
    assert rows == [
        "| A | timm | yes | no | BWA: ValueError: a\\|b |",
        "| b | timm | yes | yes | half |",
        "| c | timm | yes | yes | BW: one; BWA: other |",
    ]
    assert "| timm 1 | 3 of 3 | 2 of 3 |" in page
    assert "6 minutes" in page
