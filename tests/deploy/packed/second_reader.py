"""A reader of packed files by numpy alone: weights and outputs of its layers."""

# fmt: off
# The site prints this file in boxes of 85 characters.

import json
import zlib

import numpy as np

DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}
MODES = {
    "zeros": "constant",
    "reflect": "reflect",
    "replicate": "edge",
    "circular": "wrap",
}
OWN = ["bits", "levels", "scale", "bias", "input_shift.shift"]
ABSENT = {
    "dtype": "float32",
    "binary_input": False,
    "accumulator": None,
    "padding_value": 0,
    "geometry": None,
}


def read(path):  # the tensors by name, and the layers, each with those of its own
    data, tensors, layers = np.fromfile(path, "u1").tobytes(), {}, {}
    header = json.loads(data[8 : (start := 8 + int.from_bytes(data[:8], "little"))])
    content = json.loads(header.pop("__metadata__")["proxconnect"])
    place = len('01234567{"__metadata__":{"proxconnect.crc32":"')
    computed = zlib.crc32(data[:place] + b"00000000" + data[place + 8 :])
    if (
        content["version"] >= 3
        and data[place : place + 8] != f"{computed:08x}".encode()
    ):
        raise ValueError(f"{path} is damaged")
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        tensors[name] = np.frombuffer(
            data[start + begin : start + end], DTYPES[entry["dtype"]]
        ).reshape(entry["shape"])
    tensors |= {
        name: tensors[stored] for name, stored in content["aliases"].items()
    }
    for name, entry in content["layers"].items():
        places = {key: f"{name}.{key}".lstrip(".") for key in OWN}
        layers[name] = (
            ABSENT
            | entry
            | {"own": {k: tensors[at] for k, at in places.items() if at in tensors}}
        )
    return tensors, layers


def numbers(layer):  # ±1, or levels of 8 bits
    bits = layer["own"].get("bits", np.empty(0, "u1"))
    held = layer["own"].get(
        "levels", np.unpackbits(bits, bitorder="little").astype("i1") * 2 - 1
    )
    return (
        held.ravel()[: np.prod(layer["shape"])]
        .reshape(layer["shape"])
        .astype(layer["dtype"])
    )


def along(
    layer, key, absent, dims, axis
):  # a number for each channel, or one for all, to broadcast
    shape = [-1 if i == axis else 1 for i in range(dims)]
    return np.asarray(layer["own"].get(key, absent), layer["dtype"]).reshape(shape)


def weight(layer):
    if size := layer.get(
        "group_size"
    ):  # each input of an output has the scale of its group
        return numbers(layer) * layer["own"]["scale"][0].repeat(size, 1)
    return numbers(layer) * along(layer, "scale", 1, len(layer["shape"]), 0)


def borders(
    geometry, kernel
):  # how far each dimension of an image is padded, before and behind
    if geometry["padding"] not in ("same", "valid"):
        return [(pad, pad) for pad in geometry["padding"]]
    all_of = [
        d * (k - 1) * (geometry["padding"] == "same")
        for d, k in zip(geometry["dilation"], kernel, strict=True)
    ]
    return [(both // 2, both - both // 2) for both in all_of]


def rounded(layer, x):  # whole numbers, and their step, of each row or image
    seen, kernel = x, layer["shape"][2:]
    if kernel == [1, 1] and not np.any(borders(layer["geometry"], kernel)):
        seen = x[
            :,
            :,
            :: layer["geometry"]["stride"][0],
            :: layer["geometry"]["stride"][1],
        ]
    most = abs(seen).max((1, 2, 3) if kernel else -1, keepdims=True).clip(2.0**-100)
    return np.round(x * (127 / most)).astype(float), most / 127


def convolved(layer, x, numbers):
    geometry, mode = layer["geometry"], MODES[layer["geometry"]["padding_mode"]]
    around = [(0, 0), (0, 0), *borders(geometry, numbers.shape[2:])]
    x = np.pad(
        x,
        around,
        mode,
        **(
            {"constant_values": layer["padding_value"]}
            if mode == "constant"
            else {}
        ),
    )
    spans = [
        d * (k - 1) + 1
        for d, k in zip(geometry["dilation"], numbers.shape[2:], strict=True)
    ]
    windows = np.lib.stride_tricks.sliding_window_view(
        x, spans, tuple(range(2, x.ndim))
    )
    windows = windows[
        :,
        :,
        *(
            slice(None, None, step)
            for step in geometry["stride"] + geometry["dilation"]
        ),
    ]
    groups = zip(
        np.split(windows, geometry["groups"], 1),
        np.split(numbers, geometry["groups"]),
        strict=True,
    )
    axes = [1, *range(x.ndim, windows.ndim)], [*range(1, numbers.ndim)]
    return np.moveaxis(
        np.concatenate([np.tensordot(*group, axes) for group in groups], -1), -1, 1
    )


def accumulated(accumulator, sums):  # not the cyclic one
    half, wraps = 2 ** (accumulator["bits"] - 1), accumulator["overflow"] == "wrap"
    return (
        (sums + half) % (2 * half) - half
        if wraps
        else np.clip(sums, -half, half - 1)
    )


def answer(
    layer, x
):  # (…, in) of a linear layer, (batch, in, *size) of a convolution
    if layer.get("group_size"):
        return x @ weight(layer).T.astype(float) + layer["own"].get("bias", 0)
    factors, step, axis = (
        numbers(layer).astype(float),
        1,
        1 if layer["geometry"] else x.ndim - 1,
    )
    if layer["binary_input"]:
        x = np.where(
            x + along(layer, "input_shift.shift", 0, x.ndim, axis) >= 0, 1.0, -1.0
        )
    elif "levels" in layer["own"]:
        x, step = rounded(layer, x)
    sums = convolved(layer, x, factors) if layer["geometry"] else x @ factors.T
    sums = accumulated(layer["accumulator"], sums) if layer["accumulator"] else sums
    return sums * step * along(layer, "scale", 1, x.ndim, axis) + along(
        layer, "bias", 0, x.ndim, axis
    )
