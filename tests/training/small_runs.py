"""Runs of a second on generated pictures, and in what two of them differ."""

import gc

import torch

from proxconnect.training.checkpoints import LAST
from proxconnect.training.configuration import Configured
from proxconnect.training.row import QUIET
from proxconnect.training.runs import PACKED, fit, last_checkpoint, ship
from training.forks import processes

PICTURES = "training.pictures.GeneratedPictures"
TRANSFORMER = {"name": "small_vit", "options": {"patch": 4, "dim": 16, "depth": 2, "heads": 2}}
"""Without batch norm."""


def configuration(model=None, trainer=None, data=None, checkpoint=None):
    """Plain data of a run of two epochs of three steps: a small CNN by BNN++ unless `model` says otherwise."""
    return {
        "data": {"class_path": PICTURES, "init_args": {"batch_size": 32} | (data or {})},
        "model": {"network": {"name": "small_cnn"}, "binary": {"weights": "bnn++"}} | (model or {}),
        "trainer": {"max_epochs": 2, "accelerator": "cpu"} | (trainer or {}),
        "checkpoint": checkpoint or {},
    }


def configured(folder, plain=None, **parts):
    plain = plain or configuration(**parts)
    return Configured(plain | {"trainer": QUIET | plain["trainer"] | {"default_root_dir": str(folder)}})


def finish(folder, callbacks=(), **parts):
    """The run in that folder at its end, from where it got to; its packed file beside its checkpoint."""
    run = configured(folder, **parts)
    fit(run, callbacks, last_checkpoint(run))
    if run.model.binary is not None:
        ship(run.model, folder)
    return run


def started(work, *arguments):
    """A process that does `work`, a function of a module, on one thread."""
    process = processes.Process(target=_work, args=(work, arguments))
    process.start()
    return process


def _work(work, arguments):
    gc.freeze()  # `pack` collects garbage, which else goes through all imports
    torch.set_num_threads(1)
    work(*arguments)


def outcome(folder):
    """All that the last checkpoint holds, by path, and the bytes of the packed file."""
    checkpoint = torch.load(folder / LAST, weights_only=True)
    return flat(checkpoint) | {"packed": (folder / PACKED).read_bytes()}


def differences(outcomes, others):
    """The names of what is not the same to the last bit in both."""
    return {name for name in {*outcomes, *others} if not _same(outcomes.get(name), others.get(name))}


def flat(value):
    """What nested plain data holds, by path."""
    return dict(_flat(value))


def _flat(value, path=""):
    if isinstance(value, dict | list | tuple):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _flat(part, f"{path}.{key}")
    else:
        yield path, value


def _same(a, b):
    return torch.equal(a, b) if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) else a == b
