"""Data sets: plain tensors for simple loops here, Lightning data modules in `modules`."""

from proxconnect.training.data.dataset import FASHION_MNIST_ROOT, Dataset, load, read_idx
from proxconnect.training.data.pictures import DatasetError

__all__ = ["FASHION_MNIST_ROOT", "Dataset", "DatasetError", "load", "read_idx"]
