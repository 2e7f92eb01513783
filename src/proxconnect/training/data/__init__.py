"""Data sets: plain tensors for simple loops here, Lightning data modules in `modules`."""

from proxconnect.training.data.dataset import Dataset, digits, fashion_mnist, load
from proxconnect.training.data.errors import DatasetError
from proxconnect.training.data.idx import FASHION_MNIST_ROOT, read_idx

__all__ = ["FASHION_MNIST_ROOT", "Dataset", "DatasetError", "digits", "fashion_mnist", "load", "read_idx"]
