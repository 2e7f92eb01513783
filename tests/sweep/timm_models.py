"""timm: the smallest model of each of its families, as `choose_timm.py` found them."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from sweep.subject import Subject

NAMES = Path(__file__).with_name("timm_models.txt")
"""A line each: the name, the size of its images, and "resized" where the model is told that size."""


OPTIONS: dict[str, dict[str, Any]] = {"nf_resnet26": {"keep": ()}}
"""Of `binarize`: of that one the head alone multiplies by a plain weight, its convolutions standardise theirs."""


def images(size: int) -> Tensor:
    return torch.randn(2, 3, size, size)


def built(name: str, size: int | None) -> nn.Module:
    return timm.create_model(name, **({} if size is None else {"img_size": size}))


def of(line: str) -> tuple[str, Subject]:
    name, size, *how = line.split()
    build: Callable[[], nn.Module] = partial(built, name, int(size) if how else None)
    return name, Subject(build, partial(images, int(size)), options=OPTIONS.get(name, {}))


MODELS: dict[str, Subject] = dict(of(line) for line in NAMES.read_text().splitlines())
