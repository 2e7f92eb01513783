"""Data sets: plain tensors for simple loops here, Lightning data modules in `modules`."""

from proxconnect.training.data.dataset import FASHION_MNIST_ROOT, Dataset, digits, fashion_mnist, load, read_idx
from proxconnect.training.data.pictures import DatasetError

__all__ = ["FASHION_MNIST_ROOT", "Dataset", "DatasetError", "digits", "fashion_mnist", "load", "read_idx"]
