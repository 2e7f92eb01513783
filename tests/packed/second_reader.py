"""A packed file by numpy alone: the weights of its linear layers and convolutions, and what these answer."""

import json

import numpy as np

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I8": "i1", "U8": "u1", "BOOL": "?"}
MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
ABSENT = {"dtype": "float32", "binary_input": False, "accumulator": None, "padding_value": 0, "geometry": None}


def read(path):  # the tensors by name, and the layers, each with those of its own
    data = np.fromfile(path, "u1").tobytes()
    start, tensors, layers = 8 + int.from_bytes(data[:8], "little"), {}, {}
    header = json.loads(data[8:start])
    content = json.loads(header.pop("__metadata__")["proxconnect"])
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        tensors[name] = np.frombuffer(data[start + begin : start + end], DTYPES[entry["dtype"]]).reshape(entry["shape"])
    tensors |= {name: tensors[stored] for name, stored in content["aliases"].items()}
    for name, entry in content["layers"].items():
        places = {key: f"{name}.{key}".lstrip(".") for key in ("bits", "levels", "scale", "bias", "input_shift.shift")}
        own = {key: tensors[place] for key, place in places.items() if place in tensors}
        layers[name] = ABSENT | entry | {"own": own}
    return tensors, layers


def numbers(layer):  # ±1, or levels of 8 bits
    own = layer["own"]
    held = own["levels"] if "levels" in own else np.unpackbits(own["bits"], bitorder="little") * np.int8(2) - 1
    return held.ravel()[: np.prod(layer["shape"])].reshape(layer["shape"]).astype(layer["dtype"])


def along(layer, key, absent, dims, axis):  # a number for each channel, or one for all, to broadcast
    return np.asarray(layer["own"].get(key, absent), layer["dtype"]).reshape(
        [-1 if i == axis else 1 for i in range(dims)]
    )


def weight(layer):
    return numbers(layer) * along(layer, "scale", 1, len(layer["shape"]), 0)


def borders(geometry, kernel):  # how far each dimension of an image is padded, before and behind
    if geometry["padding"] not in ("same", "valid"):
        return [(pad, pad) for pad in geometry["padding"]]
    all_of = [d * (k - 1) * (geometry["padding"] == "same") for d, k in zip(geometry["dilation"], kernel, strict=True)]
    return [(both // 2, both - both // 2) for both in all_of]


def rounded(layer, x):  # whole numbers, and their step, of each row or image
    seen, kernel = x, layer["shape"][2:]
    if kernel == [1, 1] and not np.any(borders(layer["geometry"], kernel)):
        seen = x[:, :, :: layer["geometry"]["stride"][0], :: layer["geometry"]["stride"][1]]
    most = abs(seen).max((1, 2, 3) if kernel else -1, keepdims=True).clip(2.0**-100)
    return np.round(x * (127 / most)).astype(float), most / 127


def convolved(layer, x, numbers):
    geometry, mode = layer["geometry"], MODES[layer["geometry"]["padding_mode"]]
    filled = {"constant_values": layer["padding_value"]} if mode == "constant" else {}
    x = np.pad(x, [(0, 0), (0, 0), *borders(geometry, numbers.shape[2:])], mode, **filled)
    spans = [d * (k - 1) + 1 for d, k in zip(geometry["dilation"], numbers.shape[2:], strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(x, spans, tuple(range(2, x.ndim)))
    windows = windows[:, :, *(slice(None, None, step) for step in geometry["stride"] + geometry["dilation"])]
    groups = zip(np.split(windows, geometry["groups"], 1), np.split(numbers, geometry["groups"]), strict=True)
    axes = [1, *range(x.ndim, windows.ndim)], [*range(1, numbers.ndim)]
    return np.moveaxis(np.concatenate([np.tensordot(w, n, axes) for w, n in groups], -1), -1, 1)


def accumulated(accumulator, sums):
    half = 2 ** (accumulator["bits"] - 1)
    if accumulator["overflow"] == "saturate":
        return np.clip(sums, -half, half - 1)
    sums, slope = (sums + half) % (2 * half) - half, accumulator["slope"]
    small = (abs(sums) <= half * slope / (slope + 1)) | (accumulator["overflow"] == "wrap")
    return np.where(small, sums, slope * (half - abs(sums)) * np.sign(sums))


def answer(layer, x):  # (…, in) of a linear layer, (batch, in, *size) of a convolution
    factors, step, axis = numbers(layer).astype(float), 1, 1 if layer["geometry"] else x.ndim - 1
    if layer["binary_input"]:
        x = np.where(x + along(layer, "input_shift.shift", 0, x.ndim, axis) >= 0, 1.0, -1.0)
    elif "levels" in layer["own"]:
        x, step = rounded(layer, x)
    sums = convolved(layer, x, factors) if layer["geometry"] else x @ factors.T
    sums = sums if layer["accumulator"] is None else accumulated(layer["accumulator"], sums)
    return sums * step * along(layer, "scale", 1, x.ndim, axis) + along(layer, "bias", 0, x.ndim, axis)
