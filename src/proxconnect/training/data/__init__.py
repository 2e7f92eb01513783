"""Data sets: as plain tensors for the demo here, as Lightning data modules in `modules`, whose streams can resume."""

from proxconnect.training.data.dataset import Dataset, digits, fashion_mnist, load
from proxconnect.training.data.errors import DatasetError
from proxconnect.training.data.sources.fashion_mnist import FASHION_MNIST_ROOT
from proxconnect.training.data.sources.idx import read_idx

__all__ = ["FASHION_MNIST_ROOT", "Dataset", "DatasetError", "digits", "fashion_mnist", "load", "read_idx"]
