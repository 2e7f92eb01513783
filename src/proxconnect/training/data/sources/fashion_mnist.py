"""Fashion-MNIST, as its four IDX files."""

from pathlib import Path

from proxconnect.training.data.errors import wrong_folder
from proxconnect.training.data.pictures import Splits, TensorPictures, checked
from proxconnect.training.data.sources.download import downloading
from proxconnect.training.data.sources.idx import read_idx

FASHION_MNIST_ROOT = Path("/usr/share/datasets/fashion-mnist")
"""Where the Debian package dataset-fashion-mnist puts the files."""

LAYOUT = """
├── train-images-idx3-ubyte     each plain or as .gz
├── train-labels-idx1-ubyte
├── t10k-images-idx3-ubyte
└── t10k-labels-idx1-ubyte
"""


def read_fashion_mnist(root: Path = FASHION_MNIST_ROOT) -> Splits[TensorPictures]:
    """70000 articles of clothing, grey, 28 x 28: 60000 to train, 10000 to test, from the four IDX files in `root`.

    How many there are is not checked, so that a part of them is read too. DatasetError where a file is absent, damaged
    or of other shapes or labels. Source: Xiao 2017 (arXiv 1708.07747).
    """
    train, test = (
        checked(
            read_idx(_find(root, f"{prefix}-images-idx3-ubyte")),
            read_idx(_find(root, f"{prefix}-labels-idx1-ubyte")),
            shape=(28, 28),
            classes=10,
            where=f"{root} does not hold Fashion-MNIST: {prefix}",
        )
        for prefix in ("train", "t10k")
    )
    return Splits(train, test, classes=10)


def download_fashion_mnist(root: Path) -> None:
    """Fetch into `root` the files that are not there, by the addresses and checksums that torchvision knows."""
    from torchvision.datasets import FashionMNIST
    from torchvision.datasets.utils import download_url

    with downloading("Fashion-MNIST", root):
        for name, md5 in FashionMNIST.resources:
            if not (root / name).is_file() and not (root / name).with_suffix("").is_file():
                download_url(f"{FashionMNIST.mirrors[0]}{name}", root, name, md5)


def _find(root: Path, name: str) -> Path:
    for candidate in (root / name, root / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    raise wrong_folder(
        "Fashion-MNIST",
        root,
        f"{name}[.gz] is missing",
        LAYOUT,
        "Give their folder as root (--root of the demo, --data.root of fit), have fit fetch them with download=True "
        "(--data.download true), or on Debian run: apt install dataset-fashion-mnist",
    )
