"""Run packed models as fused graphs: binary layers and the operations between them in single passes."""

from proxconnect.deploy.fusion.comparison import ProofError
from proxconnect.deploy.fusion.graph_modules import layer_by_layer
from proxconnect.deploy.fusion.proof import Proof, prove
from proxconnect.deploy.fusion.regions import Floats, Fusion, Region, fuse

__all__ = ["Floats", "Fusion", "Proof", "ProofError", "Region", "fuse", "layer_by_layer", "prove"]
