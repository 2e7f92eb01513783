"""A packed network for OpenVINO, whose convolutions of binary inputs are `BinaryConvolution`."""

import openvino
import torch

import proxconnect as pc
from proxconnect.export import to_openvino
from proxconnect.training.models.bireal import bireal_resnet18

torch.manual_seed(0)  # with some seeds an input is so near 0 that its sign hangs on rounding
image = torch.randn(1, 3, 64, 64)
packed = pc.pack(pc.binarize(bireal_resnet18(width=16), activations="bnn", example=image).eval())
to_openvino(packed, image, "bireal.xml")

network = openvino.Core().compile_model("bireal.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
answer = torch.from_numpy(network([image.numpy()])[0])
torch.testing.assert_close(answer, packed(image), rtol=1e-4, atol=1e-4)
