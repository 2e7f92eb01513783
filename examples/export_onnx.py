"""A packed network as an ONNX file, answered by ONNX Runtime."""

import onnxruntime
import torch
import torchvision

import proxconnect as pc
from proxconnect.export import to_onnx

images = torch.randn(2, 3, 64, 64)
packed = pc.pack(pc.binarize(torchvision.models.resnet18(), example=images).eval())
to_onnx(packed, images, "resnet18.onnx")

session = onnxruntime.InferenceSession("resnet18.onnx")
(answer,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
torch.testing.assert_close(torch.from_numpy(answer), packed(images), rtol=1e-4, atol=1e-4)
