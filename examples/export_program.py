"""A packed network as `torch.export` and AOTInductor have it: one file, which keeps the kernels of this library."""

import torch
from torch import nn

import proxconnect as pc  # whoever loads the file imports it, too: the kernels are its operators

inner = [nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16), nn.Flatten(), nn.Linear(256, 64), nn.GELU()]
network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), *inner, nn.Linear(64, 10))
packed = pc.pack(pc.binarize(network, activations={"2": "bnn"}).eval())  # the inner convolution takes signs
torch.manual_seed(0)  # with some seeds an input is so near 0 that its sign hangs on rounding
images = torch.randn(4, 3, 8, 8)
with torch.no_grad():
    program = torch.export.export(packed, (images,))
    torch.export.save(program, "exported.pt2")
    package = torch._inductor.aoti_compile_and_package(program, package_path="compiled.pt2")  # needs a C++ compiler
    compiled = torch._inductor.aoti_load_package(package)
torch.testing.assert_close(torch.export.load("exported.pt2").module()(images), packed(images))
torch.testing.assert_close(compiled(images), packed(images))
