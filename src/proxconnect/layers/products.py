"""How each kind of layer multiplies its input by a weight, whoever computes that weight."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from proxconnect.kernels.accumulator import Accumulator


class Product(nn.Module):
    """Mixin: a product of an input and a weight of output channels."""

    channel_dims: tuple[int, ...] = (0,)
    """The dimensions of output channels in what `by_channel` returns."""
    accumulator: Accumulator | None = None
    """What holds the sums; None for one that never overflows."""
    overflow_counts: Tensor | None = None
    """int64 counts (overflowed, all) for a meter; None without one. No buffer, which DistributedDataParallel would send
    from one rank to all."""
    excesses: list[Tensor] | None = None
    """The mean excess of each pass that trains, for an `OverflowPenalty`; None without one."""
    own_state: ClassVar[tuple[str, ...]] = ()
    """The tensors and children that the float layer does not have: what its weight is made of, and what is more."""

    def float_key(self, name: str) -> str:
        """How a state dict of the float network calls the weight of this layer, whose qualified name is `name`."""
        return f"{name}.weight" if name else "weight"

    @property
    def output_axis(self) -> int:
        """The dimension of channels in the output, and in the input, counted from the end."""
        return -1

    def input_channels(self, weight_shape: tuple[int, ...]) -> int:
        """How many channels the input of a layer with such a weight has."""
        return weight_shape[1 - self.channel_dims[0]]

    def multiply(self, input: Tensor, weight: Tensor, bias: Tensor | None, *args: Any) -> Tensor:
        """The product that the layer describes, with a weight of the float layer's shape."""
        raise NotImplementedError

    def by_channel(self, weight: Tensor) -> Tensor:
        """A view of `weight` whose dimensions `channel_dims` are the output channels, in their order."""
        return weight

    @property
    def scales_sums(self) -> bool:
        """Whether the scale multiplies sums, not weights: where an accumulator holds them, or they are of signs alone.

        Sums of signs are integers, exact in any order, so that every engine that scales them afterwards agrees.
        """
        return self.accumulator is not None

    @property
    def sums_integers(self) -> bool:
        """Whether the sums are of hard signs alone."""
        return False

    def product(self, input: Tensor, weight: Tensor, alpha: Tensor | None, bias: Tensor | None, *args: Any) -> Tensor:
        """`multiply`, or `accumulate` where α multiplies sums, not the weight."""
        if self.scales_sums:
            return self.accumulate(input, weight, alpha, bias, *args)
        return self.multiply(input, weight, bias, *args)

    def accumulate(
        self, input: Tensor, weight: Tensor, alpha: Tensor | None, bias: Tensor | None, *args: Any
    ) -> Tensor:
        """The product with an unscaled weight, its sums held by the accumulator, then times α (by channel) plus bias.

        It is computed in float32 or wider, since bfloat16 holds integers only to 256; the dtype is the input's again.
        """
        wide = torch.promote_types(input.dtype, torch.float32)
        with _without_autocast(input.device.type):
            result = self.multiply(input.to(wide), weight.to(wide), None, *args)
            if self.sums_integers and not _sums_exactly(result):
                result = _nearest_integers(result)
            if self.accumulator is not None:
                self._note_overflows(result, self.accumulator)
                result = self.accumulator(result)
            if alpha is not None:
                result = result * self._along_output(alpha.to(wide))
            if bias is not None:
                result = result + self._along_output(bias.to(wide))
        return result.to(input.dtype)

    def _along_output(self, values: Tensor) -> Tensor:
        """One value for each output channel, or one for all, broadcastable over the output."""
        return values.reshape(-1, *(1,) * (-1 - self.output_axis))

    def __getstate__(self) -> dict[str, Any]:
        """What copies take: not what belongs to the meters and penalties of this layer."""
        return {k: v for k, v in self.__dict__.items() if k not in ("overflow_counts", "excesses")}

    def _note_overflows(self, sums: Tensor, accumulator: Accumulator) -> None:
        """Tell a penalty of the excess, and a meter of the sums that overflow."""
        counts = self.overflow_counts
        if (self.excesses is None and counts is None) or sums.numel() == 0 or _is_transformed(sums):
            return
        if self.excesses is not None and self.training and torch.is_grad_enabled():
            excess = accumulator.excess(sums).mean()  # checkpoints want it computed again, though it counts once
            if not _in_backward():
                self.excesses.append(excess)
        if counts is not None:
            overflowed = accumulator.overflows(sums).sum().to(counts.device)
            counts += torch.stack([overflowed, counts.new_full((), sums.numel())])


class LinearProduct(Product):
    """That of `nn.Linear`: the weight is (out, in)."""

    def multiply(self, input: Tensor, weight: Tensor, bias: Tensor | None, *args: Any) -> Tensor:
        """(…, in) → (…, out)."""
        return functional.linear(input, weight, bias)


class ProjectionProduct(LinearProduct):
    """That of the in-projections of attention: blocks of rows of one weight, each with an input of its own."""

    def project(
        self, inputs: tuple[Tensor, ...], weight: Tensor, alpha: Tensor | None, bias: Tensor | None
    ) -> tuple[Tensor, ...]:
        """(…, in) → (…, out/n) for each of the n inputs."""
        blocks = len(inputs)
        alphas = (alpha,) * blocks if alpha is None or alpha.numel() == 1 else alpha.chunk(blocks)
        biases = (None,) * blocks if bias is None else bias.chunk(blocks)
        rows = zip(inputs, weight.chunk(blocks), alphas, biases, strict=True)
        return tuple(self.product(input, block, a, b) for input, block, a, b in rows)


class TransposedLinearProduct(Product):
    """That of transformers' `Conv1D`: the weight is (in, out)."""

    channel_dims = (1,)

    def multiply(self, input: Tensor, weight: Tensor, bias: Tensor | None, *args: Any) -> Tensor:
        """(…, in) → (…, out)."""
        if bias is None:
            return input @ weight
        rows = torch.addmm(bias, input.reshape(-1, input.shape[-1]), weight)
        return rows.view(*input.shape[:-1], weight.shape[1])


class ConvProduct(Product):
    """That of `nn.Conv1d` to `nn.Conv3d`, whose attributes it reads: the weight is (out, in/groups, *kernel)."""

    padding_value: int = 0
    """What `padding_mode="zeros"` fills the border with."""

    @property
    def output_axis(self) -> int:
        """The channels stand before the sizes."""
        return _before_sizes(self)

    def input_channels(self, weight_shape: tuple[int, ...]) -> int:
        """Those of all groups."""
        return _all_input_channels(self)

    def multiply(self, input: Tensor, weight: Tensor, bias: Tensor | None, *args: Any) -> Tensor:
        """(N, C_in, *size) → (N, C_out, *size_out), with or without N."""
        layer: Any = self
        if self.padding_value == 0:
            output: Tensor = layer._conv_forward(input, weight, bias)
            return output
        padded = functional.pad(input, layer._reversed_padding_repeated_twice, value=self.padding_value)
        convolve = (functional.conv1d, functional.conv2d, functional.conv3d)[weight.dim() - 3]
        return convolve(padded, weight, bias, layer.stride, 0, layer.dilation, layer.groups)


class TransposedConvProduct(Product):
    """That of `nn.ConvTranspose1d` to `nn.ConvTranspose3d`: the weight is (in, out/groups, *kernel)."""

    channel_dims = (0, 2)

    @property
    def output_axis(self) -> int:
        """The channels stand before the sizes."""
        return _before_sizes(self)

    def input_channels(self, weight_shape: tuple[int, ...]) -> int:
        """Those of all groups."""
        return _all_input_channels(self)

    def multiply(
        self, input: Tensor, weight: Tensor, bias: Tensor | None, output_size: list[int] | None = None, *args: Any
    ) -> Tensor:
        """(N, C_in, *size) → (N, C_out, *size_out), with or without N."""
        layer: Any = self
        spatial = weight.dim() - 2
        output_padding = layer._output_padding(
            input, output_size, layer.stride, layer.padding, layer.kernel_size, spatial, layer.dilation
        )
        functions = (functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d)
        output: Tensor = functions[spatial - 1](
            input, weight, bias, layer.stride, layer.padding, output_padding, layer.groups, layer.dilation
        )
        return output

    def by_channel(self, weight: Tensor) -> Tensor:
        """(groups, in/groups, out/groups, *kernel): output channel o is (o // (out/groups), o % (out/groups))."""
        layer: Any = self
        view: Tensor = weight.unflatten(0, (layer.groups, -1))
        return view


def _sums_exactly(result: Tensor) -> bool:
    """Whether the engine of a product adds signs one by one, as oneDNN and products of matrices do.

    Others transform patches (NNPACK, and so torch on CPUs without oneDNN, from 16 images on), which rounds.
    """
    if torch.compiler.is_compiling():
        return True
    onednn = torch.backends.mkldnn
    return result.device.type == "cpu" and bool(onednn.enabled) and onednn.is_available()


def _nearest_integers(sums: Tensor) -> Tensor:
    """Sums without what an engine's rounding added, with the gradient of the sums."""
    rounded = sums.detach().round()
    return sums + (rounded - sums.detach()) if sums.requires_grad else rounded


def _before_sizes(layer: Any) -> int:
    return -1 - len(layer.kernel_size)


def _all_input_channels(layer: Any) -> int:
    return int(layer.in_channels)


def _is_transformed(sums: Tensor) -> bool:
    """Whether `torch.func` wraps the sums, so that nothing computed of them may leave."""
    return not torch.compiler.is_compiling() and torch._C._functorch.is_functorch_wrapped_tensor(sums)


def _in_backward() -> bool:
    """Whether this pass is one that activation checkpointing repeats."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


def _without_autocast(device_type: str) -> AbstractContextManager[object]:
    return nullcontext() if device_type == "meta" else torch.autocast(device_type, enabled=False)
