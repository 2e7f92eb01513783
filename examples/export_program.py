"""A packed network as `torch.export` and AOTInductor have it: one file, which keeps the kernels of this library."""

import torch
from torch import nn

import proxconnect as pc  # whoever loads the file imports it, too: the kernels are its operators

inner = [nn.Linear(256, 256), nn.BatchNorm1d(256), nn.Linear(256, 256), nn.GELU()]
network = nn.Sequential(nn.Linear(64, 256), nn.GELU(), *inner, nn.Linear(256, 10))
packed = pc.pack(pc.binarize(network, activations={"4": "bnn"}).eval())  # the second of the inner ones takes signs
rows = torch.randn(4, 64)
with torch.no_grad():
    program = torch.export.export(packed, (rows,))
    torch.export.save(program, "exported.pt2")
    package = torch._inductor.aoti_compile_and_package(program, package_path="compiled.pt2")  # needs a C++ compiler
    compiled = torch._inductor.aoti_load_package(package)
torch.testing.assert_close(torch.export.load("exported.pt2").module()(rows), packed(rows))
torch.testing.assert_close(compiled(rows), packed(rows))
