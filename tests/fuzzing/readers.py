"""Every reader of files, with what it is given to read and what must stay as it was."""

import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

from torch import nn

import proxconnect as pc
from fuzzing import checkpoint_files, data_files, language_files, packed_files, picture_files, text_files
from fuzzing.law import Reader
from proxconnect.deploy import checkpoints
from proxconnect.export.gguf.container import read_contents
from proxconnect.huggingface.quantizer import ProxConnectConfig
from proxconnect.training.checkpoints import read_run
from proxconnect.training.data import pictures
from proxconnect.training.data.dataset import read_idx
from proxconnect.training.data.modules.cifar import read_batch
from proxconnect.training.data.modules.imagenet import ParquetPictures
from proxconnect.training.discovery.laws import refusal
from proxconnect.training.discovery.search import Candidate, Search
from proxconnect.training.discovery.space import Range
from proxconnect.training.study import ledger, yaml_files
from proxconnect.training.study.grid import Grid
from proxconnect.training.study.grid_rows import rows_of


def state_of(model: nn.Module) -> list[tuple[object, ...]]:
    """The names, classes and values of a model."""
    values = [(name, tensor.tolist()) for name, tensor in model.state_dict().items()]
    return [*values, *((name, type(module)) for name, module in model.named_modules())]


def read_grid(path: Path, _: Any) -> object:
    """The rows of a grid."""
    return rows_of(Grid.read(path))


def read_search(path: Path, _: Any) -> object:
    """The rows of one candidate of each space in each round, and why it may not train."""
    search, found = Search.read(path), []
    for space in search.spaces:
        values = {name: parameter.low if isinstance(parameter, Range) else parameter.choices[0]
                  for name, parameter in space.parameters.items()}  # fmt: skip
        candidate = Candidate(space, 1, values)
        rows = [row for number, _ in enumerate(search.rounds, 1) for row in search.rows(candidate, number)]
        found += [(row.key, refusal(row.configuration)) for row in rows]
    return found


def read_checkpoint(path: Path, _: Any) -> object:
    """Whether it is packed, and what it holds."""
    return checkpoints.is_packed(path) or checkpoints.read(path)


def read_configuration(path: Path, _: Any) -> object:
    """A network that is binary as the configuration under `quantization_config` says, in either way."""
    try:
        content = dict(json.loads(path.read_text()).items())
    except (AttributeError, RecursionError) as error:
        raise ValueError("it is transformers that reads this file, and these errors are its own") from error
    configuration = ProxConnectConfig.from_dict(content)
    model = packed_files.Small()
    (configuration.binarize if configuration.layers is None else configuration.binarize_again)(model)
    return model


def read_picture(path: Path, _: Any) -> object:
    """A picture, of no more pixels than are read in the memory that the law allows."""
    with patch.object(pictures, "MOST_PIXELS", 1_000_000):
        return pictures.decoded(path, str(path))


def read_shard(path: Path, _: Any) -> object:
    """The first pictures of a shard of ImageNet, each as `read_picture` reads it."""
    with patch.object(pictures, "MOST_PIXELS", 1_000_000):
        shard = ParquetPictures([path])
        return [shard.open(index) for index in range(min(8, len(shard.labels)))]


READERS = {
    reader.name: reader
    for reader in (
        Reader("packed", lambda path, model: pc.load(path, model), packed_files.seeds, packed_files.mutate,
               packed_files.Small(), state_of, ".safetensors"),
        Reader("checkpoint", read_checkpoint, checkpoint_files.seeds, checkpoint_files.mutate),
        Reader("run", lambda path, _: read_run(path), checkpoint_files.seeds, checkpoint_files.mutate),
        Reader("yaml", lambda path, _: yaml_files.read(path), text_files.yaml_seeds, text_files.mutate_yaml),
        Reader("grid", read_grid, text_files.yaml_seeds, text_files.mutate_yaml, suffix=".yaml"),
        Reader("search", read_search, text_files.search_seeds, text_files.mutate_search, suffix=".yaml",
               patience=3.0),  # it proves the laws of each pair, for up to 1.9 s on an AMD EPYC Zen 3
        Reader("ledger", lambda path, _: ledger.read(path), text_files.ledger_seeds, text_files.mutate_ledger),
        Reader("configuration", read_configuration, text_files.configuration_seeds, text_files.mutate_configuration),
        Reader("idx", lambda path, _: read_idx(path), data_files.idx_seeds, data_files.mutate_idx),
        Reader("cifar", lambda path, _: read_batch(path), data_files.cifar_seeds, data_files.mutate_cifar),
        Reader("picture", read_picture, picture_files.picture_seeds,
               picture_files.mutate_picture, suffix=".jpeg"),
        Reader("gguf", lambda path, _: read_contents(path), language_files.gguf_seeds, language_files.mutate_gguf),
        Reader("parquet", read_shard, picture_files.parquet_seeds, picture_files.mutate_parquet, suffix=".parquet"),
    )
}  # fmt: skip
"""By the names that the programs take."""
