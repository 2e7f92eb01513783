"""Which models of timm are swept: of each family the smallest, on the smallest images that it takes.

A family is what a file of timm has under one name, sizes apart. Models of more than 100 million parameters are left
out: each has a smaller relative in another file. Run from tests/: python -m sweep.choose_timm > sweep/timm_models.txt
"""

import re
import sys
import warnings

import timm
import torch
from timm.models import _registry

from sweep.timm_models import built, images

MOST_PARAMETERS = 100_000_000
SIZES = (32, 64, 96, 128, 160, 192)
SIZE_WORDS = "pico|femto|atto|nano|tiny|micro|mini|small|medium|base|large|xlarge|huge|giant|x{0,2}[sl]|[smlbtn]"


def family(name: str) -> tuple[str, str]:
    start = re.split(r"\d", name)[0].rstrip("_")
    return _registry._model_to_module[name], re.sub(rf"_({SIZE_WORDS})(?=_|$).*", "", start)


def parameters(name: str) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in timm.create_model(name).parameters())


def smallest() -> list[str]:
    best: dict[tuple[str, str], tuple[int, str]] = {}
    for name in timm.list_models(exclude_filters="test_*"):
        try:
            found = parameters(name), name
        except Exception as error:  # whatever a model that cannot be built on the meta device raises
            print(f"{name}: {error}", file=sys.stderr)
            continue
        best[family(name)] = min(found, best.get(family(name), found))
    return sorted(name for count, name in best.values() if count <= MOST_PARAMETERS)


def fitted(name: str) -> str:
    """The line of a model."""
    for size in (*SIZES, timm.get_pretrained_cfg(name).input_size[-1]):
        for told in (None, size):
            try:
                with torch.no_grad():
                    model = built(name, told)
                    model.train()(images(size))
                    model.eval()(images(size))
            except Exception:  # it takes no such images
                continue
            return f"{name} {size}{'' if told is None else ' resized'}"
    raise ValueError(f"{name} takes no images that were tried")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for chosen in smallest():
        print(fitted(chosen), flush=True)
