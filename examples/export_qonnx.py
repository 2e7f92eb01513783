"""A packed network as a QONNX file, executed by the package `qonnx`; FINN and hls4ml go on from there."""

import torch
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.infer_shapes import InferShapes
from torch import nn

import proxconnect as pc
from proxconnect.export import to_qonnx

layers = [nn.Linear(64, 64), nn.BatchNorm1d(64), nn.Linear(64, 64), nn.BatchNorm1d(64), nn.Linear(64, 10)]
packed = pc.pack(pc.binarize(nn.Sequential(*layers), activations="bnn").eval())
rows = torch.randn(1, 64)
to_qonnx(packed, rows, "net.qonnx.onnx")

model = ModelWrapper("net.qonnx.onnx").transform(InferShapes())
answers = execute_onnx(model, {model.graph.input[0].name: rows.numpy()})
answer = torch.from_numpy(answers[model.graph.output[0].name])
torch.testing.assert_close(answer, packed(rows))
