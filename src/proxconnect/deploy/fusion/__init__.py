"""Run packed models as fused graphs: binary layers and the operations between them in single passes.

The files, in the order in which to read them:

- `graph_modules` finds the modules that run as graphs, and `graph_forward` runs one call, of a kind from `calls`.
- `trace` makes a torch.fx graph of a forward: `sizes` answers its conditions on sizes, `reach` finds the Python values
  that it reads, and `snapshot` restores those that it sets.
- `passes` rewrites the graph: `writes` copies what is overwritten, `steps` recognizes epilogue steps, `images` keeps
  images channels_last. The fused operations are subclasses of `operation.Operation` in the other files.
- `sources` tells before each run whether anything from which the graph was made has changed.
- `segments` compares operations with the layers that they replace, by `closeness`, and `proof` does so for a model.
"""

from proxconnect.deploy.fusion.graph_modules import Floats, Fusion, Region, fuse, layer_by_layer
from proxconnect.deploy.fusion.proof import Proof, ProofError, prove

__all__ = ["Floats", "Fusion", "Proof", "ProofError", "Region", "fuse", "layer_by_layer", "prove"]
