"""All models of torchvision: classification, detection, segmentation, video and optical flow, without weights."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torchvision
from torch import Tensor

from sweep.subject import Subject

LABELS = 5
SIZES = {"inception_v3": 299, "maxvit_t": 224}
"""Of images, where 64 are too few for its auxiliary head, or another size is fixed."""


def images(size: int) -> Tensor:
    return torch.randn(2, 3, size, size)


def video(frames: int, size: int) -> Tensor:
    return torch.randn(1, 3, frames, size, size)


def scenes() -> tuple[list[Tensor]]:
    return ([torch.rand(3, 96, 96), torch.rand(3, 96, 96)],)


def labelled(name: str) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    boxes = torch.tensor([[8.0, 8.0, 60.0, 60.0], [30.0, 20.0, 90.0, 80.0]])
    target = {"boxes": boxes, "labels": torch.tensor([1, 2])}
    if name.startswith("mask"):
        target["masks"] = torch.ones(2, 96, 96, dtype=torch.uint8)
    if name.startswith("keypoint"):
        target |= {"labels": torch.tensor([1, 1]), "keypoints": torch.full((2, 17, 3), 40.0)}
    return scenes()[0], [target, target]


def detector(name: str, **options: Any) -> Subject:
    """Of random weights those of one stage find nothing, or boxes whose scores are equal to 1e-8."""
    build = partial(torchvision.models.get_model, name, weights=None, weights_backbone=None, **options)
    telling = "head" if name.startswith(("fcos", "retina", "ssd")) else ""
    return Subject(build, scenes, training=partial(labelled, name), telling=telling)


def classifier(name: str) -> Subject:
    size, options = SIZES.get(name, 64), {}
    if name in ("googlenet", "inception_v3"):
        options = {"init_weights": False}
    elif name.startswith("vit_"):
        size = 2 * int(name.split("_")[2])  # its patches
        options = {"image_size": size}
    return Subject(partial(torchvision.models.get_model, name, weights=None, **options), partial(images, size))


def of(module: Any, make: Callable[[str], Subject]) -> dict[str, Subject]:
    return {name: make(name) for name in torchvision.models.list_models(module=module)}


def segmenter(name: str) -> Subject:
    build = partial(torchvision.models.get_model, name, weights=None, weights_backbone=None, num_classes=LABELS)
    return Subject(build, partial(images, 64))


def filmed(name: str) -> Subject:
    kind = name.split("_")[0]
    frames, size = {"mvit": (16, 224), "s3d": (13, 224)}.get(kind, (8, 64))
    return Subject(partial(torchvision.models.get_model, name, weights=None), partial(video, frames, size))


def pairs() -> dict[str, Any]:
    return {"image1": images(128), "image2": images(128), "num_flow_updates": 2}


def flow(name: str) -> Subject:
    return Subject(partial(torchvision.models.get_model, name, weights=None), pairs)


def small_detector(name: str) -> Subject:
    options: dict[str, Any] = {"num_classes": 2 if name.startswith("keypoint") else LABELS}
    if name.startswith(("faster", "mask", "keypoint")):
        options |= {"min_size": 96, "max_size": 96, "rpn_post_nms_top_n_test": 20, "rpn_post_nms_top_n_train": 20}
        options |= {"box_detections_per_img": 10}
    elif name.startswith(("fcos", "retina")):
        options |= {"min_size": 96, "max_size": 96}
    return detector(name, **options)


MODELS: dict[str, Subject] = {
    **of(torchvision.models, classifier),
    **of(torchvision.models.detection, small_detector),
    **of(torchvision.models.segmentation, segmenter),
    **of(torchvision.models.video, filmed),
    **of(torchvision.models.optical_flow, flow),
}


def module_names() -> list[str]:
    """What torchvision has, quantised ones apart, which are 8-bit networks."""
    return torchvision.models.list_models(
        exclude=["quantized_*", *torchvision.models.list_models(module=torchvision.models.quantization)]
    )
