"""Run packed models as fused graphs: binary layers and the operations between them in single passes."""

from proxconnect.deploy.fusion.graph_modules import Floats, Fusion, Region, fuse, layer_by_layer
from proxconnect.deploy.fusion.proof import Proof, ProofError, prove

__all__ = ["Floats", "Fusion", "Proof", "ProofError", "Region", "fuse", "layer_by_layer", "prove"]
