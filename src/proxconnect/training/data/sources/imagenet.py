"""ImageNet, in either of the two forms in which it usually lies on a disk."""

from pathlib import Path

from proxconnect.training.data.errors import wrong_folder
from proxconnect.training.data.pictures import Pictures, Splits
from proxconnect.training.data.sources.folders import read_folders
from proxconnect.training.data.sources.parquet import read_parquet

LAYOUT = """
├── train
│   ├── n01440764                      a folder for each class
│   │   └── n01440764_10026.JPEG       pictures, of any name
│   └── ...
└── val
    ├── n01440764                      the same classes
    └── ...
or, as Hugging Face has it,
└── data
    ├── train-00000-of-00294.parquet   columns image {bytes, path} and label
    └── validation-00000-of-00014.parquet
"""
ADVICE = (
    "Give the folder as root (--data.root). ImageNet is not fetched, since its terms must be accepted: see "
    "https://image-net.org/download.php or https://huggingface.co/datasets/ILSVRC/imagenet-1k"
)


def read_imagenet(root: Path) -> Splits[Pictures]:
    """Pictures of any size in as many classes as there are, as folders or as parquet shards, whichever `root` holds.

    The validation pictures are the test split. DatasetError where `root` is neither, or is but in part.
    Source: Russakovsky et al. 2015 (arXiv 1409.0575).
    """
    for shards in (root, root / "data"):
        if any(shards.glob("train-*.parquet")):
            return read_parquet(shards)
    missing = [name for name in ("train", "val") if not (root / name).is_dir()]
    if missing:
        problem = f"it has neither a folder {missing[0]} nor files train-*.parquet"
        raise wrong_folder("ImageNet", root, problem, LAYOUT, ADVICE)
    return read_folders(root)
