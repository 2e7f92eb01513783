"""Deployment: pack a trained network into 1 bit a weight, fuse its layers, save it and load it."""

from proxconnect.deploy.fusion import ProofError
from proxconnect.deploy.hardening import hard_state_dict, reestimate_batchnorm
from proxconnect.deploy.packed import PackedFileError, save
from proxconnect.deploy.runtime import load, pack

__all__ = ["PackedFileError", "ProofError", "hard_state_dict", "load", "pack", "reestimate_batchnorm", "save"]
