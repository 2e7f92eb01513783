"""From a packed file back to plain floats: ±α under the names of the float network, for any tool that knows that."""

import torch
import torchvision
from safetensors.torch import load_file

import proxconnect as pc
from proxconnect.export import to_floats

model = pc.binarize(torchvision.models.resnet18(num_classes=10), "bnn++")
...  # your training
pc.save(pc.pack(model), "resnet18.safetensors")

packed = pc.load("resnet18.safetensors", torchvision.models.resnet18(num_classes=10))
to_floats(packed, "resnet18.float.safetensors")

plain = torchvision.models.resnet18(num_classes=10).eval()
plain.load_state_dict(load_file("resnet18.float.safetensors"), strict=True)
images = torch.randn(2, 3, 64, 64)
torch.testing.assert_close(plain(images), packed(images), rtol=1e-3, atol=1e-4)
print("layer1.0.conv1 has", plain.layer1[0].conv1.weight[0].abs().unique().numel(), "magnitude in its first channel")
