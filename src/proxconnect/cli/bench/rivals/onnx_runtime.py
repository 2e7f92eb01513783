"""ONNX Runtime."""

from pathlib import Path

from proxconnect.cli.bench.rivals.onnx_files import feed
from proxconnect.cli.bench.rivals.rival import Run, Task


def floats(task: Task) -> Run:
    """Run the float network."""
    return _run(task.onnx_file, task)


def int8(task: Task) -> Run:
    """Run the network in 8 bits; convolutional ones with fixed ranges of activations."""
    return _run(task.static_int8_file if task.is_convolutional else task.dynamic_int8_file, task)


def _run(file: Path, task: Task) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = task.threads, 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    inputs = feed(session, task.inputs)
    return lambda: session.run(None, inputs)
