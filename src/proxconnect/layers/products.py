"""The products of an input and a weight, one class per kind of layer, whichever way the weight is made."""

from contextlib import nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from proxconnect.kernels.accumulator import Accumulator


class Product(nn.Module):
    """Mixin of layers that multiply an input by a weight: the float layer's product, its channels and accumulator."""

    channel_dims: tuple[int, ...] = (0,)
    """The dimensions of output channels, and of groups of inputs, in the result of `by_channel`."""
    group_size: int | None = None
    """The number of inputs that share a scale of an output channel; None if all do. Only linear layers have groups."""
    accumulator: Accumulator | None = None
    """The accumulator of the sums; None for one that never overflows."""
    overflow_counts: tuple[Tensor, ...] = ()
    """An int64 tensor (overflowed sums, all sums) for each meter, to which `product` adds. They are no buffers, because
    DistributedDataParallel would send a buffer from one rank to all."""
    excesses: list[Tensor] | None = None
    """The mean `Accumulator.excess` of each training pass, for an `OverflowPenalty`; None without one."""
    own_state: ClassVar[tuple[str, ...]] = ()
    """The names of the parameters, buffers and children that this layer has and the float layer lacks."""

    def float_key(self, name: str) -> str:
        """Return the key of the weight in the float model's state dict; `name` is the layer's qualified name."""
        return f"{name}.weight" if name else "weight"

    @property
    def output_axis(self) -> int:
        """The dimension of channels in the output, and in the input, as a negative index."""
        return -1

    def input_channels(self, weight_shape: tuple[int, ...]) -> int:
        """Return the number of input channels for a weight of this shape; convolutions return `in_channels`."""
        raise NotImplementedError

    def output_channels(self, weight_shape: tuple[int, ...]) -> int:
        """Return the number of output channels for a weight of this shape."""
        return weight_shape[0]

    def multiply(self, input: Tensor, weight: Tensor, bias: Tensor | None, *args: Any) -> Tensor:
        """Return the float layer's output for this input, weight and bias, without the accumulator.

        `weight` has the float layer's shape. `args` are the further arguments of the float layer's forward.
        """
        raise NotImplementedError

    def by_channel(self, weight: Tensor) -> Tensor:
        """View `weight` so that its dimensions `channel_dims` are the output channels, in their order."""
        return weight

    @property
    def scales_sums(self) -> bool:
        """True if `product` takes an unscaled weight and multiplies the sums by α; here, if there is an accumulator."""
        return self.accumulator is not None

    @property
    def sums_integers(self) -> bool:
        """True if weights and inputs are hard signs, so that all sums are integers; False unless overridden."""
        return False

    def product(self, input: Tensor, weight: Tensor, alpha: Tensor | None, bias: Tensor | None, *args: Any) -> Tensor:
        """Multiply `input` by `weight` and add the bias, as `multiply` does, but scale the sums if `scales_sums`.

        In that case the weight is unscaled. The sums, in float32 or wider, pass through the accumulator if there is
        one, which updates `overflow_counts` and `excesses` if they are set. `alpha` scales the sums, unless None: one
        value or one per output channel. The result has the dtype of `input`. In the other case `alpha` is ignored.
        """
        if not self.scales_sums:
            return self.multiply(input, weight, bias, *args)
        wide = torch.promote_types(input.dtype, torch.float32)  # bfloat16 holds integers only to 256
        device = input.device.type
        with nullcontext() if device == "meta" else torch.autocast(device, enabled=False):
            result = self.multiply(input.to(wide), weight.to(wide), None, *args)
            if self.sums_integers and not _sums_exactly(result):
                rounded = result.detach().round()  # the gradient is that of the sums
                result = result + (rounded - result.detach()) if result.requires_grad else rounded
            if self.accumulator is not None:
                self._note_overflows(result, self.accumulator)
                result = self.accumulator(result)
            if alpha is not None:
                result = result * self._along_output(alpha.to(wide))
            if bias is not None:
                result = result + self._along_output(bias.to(wide))
        return result.to(input.dtype)

    def _along_output(self, values: Tensor) -> Tensor:
        """Shape one value, or one value per output channel, to broadcast over the output."""
        return values.reshape(-1, *(1,) * (-1 - self.output_axis))

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the state of meters and penalties, which belong to this layer and not to its copies."""
        return {k: v for k, v in self.__dict__.items() if k not in ("overflow_counts", "excesses")}

    def _note_overflows(self, sums: Tensor, accumulator: Accumulator) -> None:
        """Report the excess to a penalty, and the number of overflows to a meter."""
        counts = self.overflow_counts
        if (self.excesses is None and not counts) or sums.numel() == 0:
            return
        is_compiling = torch.compiler.is_compiling()
        if not is_compiling and torch._C._functorch.is_functorch_wrapped_tensor(sums):
            return  # no value computed from wrapped sums may be kept
        if self.excesses is not None and self.training and torch.is_grad_enabled():
            excess = accumulator.excess(sums).mean()  # checkpoints want it computed again, though it counts once
            if is_compiling or torch._C._current_graph_task_id() == -1:
                self.excesses.append(excess)
        if counts:
            overflowed = accumulator.overflows(sums).sum().to(counts[0].device)
            added = torch.stack([overflowed, counts[0].new_full((), sums.numel())])
            for count in counts:
                count += added.to(count.device)


class RowProduct(Product):
    """Base of products of rows of inputs, which can be divided into groups."""

    input_dim: ClassVar[int]
    """The dimension of inputs in the weight, 0 or 1; the other one is that of outputs."""

    def input_channels(self, weight_shape: tuple[int, ...]) -> int:
        """Return the number of inputs of a weight of this shape."""
        return weight_shape[self.input_dim]

    def output_channels(self, weight_shape: tuple[int, ...]) -> int:
        """Return the number of outputs of a weight of this shape."""
        return weight_shape[1 - self.input_dim]

    def divide(self, group_size: int) -> None:
        """Give every `group_size` inputs of an output channel a scale of their own."""
        self.group_size = group_size
        self.channel_dims = (0, 2 - self.input_dim)

    def by_channel(self, weight: Tensor) -> Tensor:
        """View `weight` as it is or, with groups, with its inputs as two dimensions, (groups, `group_size`)."""
        if self.group_size is None:
            return weight
        view: Tensor = weight.unflatten(self.input_dim, (-1, self.group_size))
        return view


class LinearProduct(RowProduct):
    """Mixin of layers that multiply as `nn.Linear` does, with a weight of shape (out, in)."""

    input_dim = 1

    def multiply(self, input: Tensor, weight: Tensor, bias: Tensor | None, *args: Any) -> Tensor:
        """Return input @ weight.T + bias: (…, in) to (…, out)."""
        return functional.linear(input, weight, bias)


class LookUp(RowProduct):
    """Mixin of layers that look up rows as `nn.Embedding` does, with a weight of shape (rows, dim).

    Each row is an output channel: its scale, or those of groups of its entries, are those of a tied head's output.
    """

    input_dim = 1

    def multiply(self, input: Tensor, weight: Tensor, bias: Tensor | None, *args: Any) -> Tensor:
        """Return the rows of `weight` at the integers `input`: (…) to (…, dim)."""
        layer: Any = self
        return functional.embedding(input, weight, layer.padding_idx, scale_grad_by_freq=layer.scale_grad_by_freq)


class ProjectionProduct(LinearProduct):
    """Mixin of the in-projections of attention: several inputs with one (out, in) weight; see `project`."""

    def project(
        self, inputs: tuple[Tensor, ...], weight: Tensor, alpha: Tensor | None, bias: Tensor | None
    ) -> tuple[Tensor, ...]:
        """Multiply each of n inputs (…, in) by its own block of out/n weight rows: return n tensors (…, out/n).

        The bias (out,), and `alpha` unless it is one value, are split in the same way.
        """
        blocks = len(inputs)
        alphas = (alpha,) * blocks if alpha is None or alpha.numel() == 1 else alpha.chunk(blocks)
        biases = (None,) * blocks if bias is None else bias.chunk(blocks)
        rows = zip(inputs, weight.chunk(blocks), alphas, biases, strict=True)
        return tuple(self.product(input, block, a, b) for input, block, a, b in rows)


class TransposedLinearProduct(RowProduct):
    """Mixin of layers that multiply as transformers' `Conv1D` does, with a weight of shape (in, out)."""

    channel_dims = (1,)
    input_dim = 0

    def multiply(self, input: Tensor, weight: Tensor, bias: Tensor | None, *args: Any) -> Tensor:
        """Return input @ weight + bias: (…, in) to (…, out)."""
        if bias is None:
            return input @ weight
        rows = torch.addmm(bias, input.reshape(-1, input.shape[-1]), weight)
        return rows.view(*input.shape[:-1], weight.shape[1])


class SpatialProduct(Product):
    """Base of products whose input and output are (N, C, *size) or (C, *size), for subclasses of torch's layers."""

    in_channels: int
    kernel_size: tuple[int, ...]

    @property
    def output_axis(self) -> int:
        """The dimension of channels C in (…, C, *size), as a negative index."""
        return -1 - len(self.kernel_size)

    def input_channels(self, weight_shape: tuple[int, ...]) -> int:
        """Return `in_channels`, the input channels of all groups together; `weight_shape` is ignored."""
        return int(self.in_channels)


class ConvProduct(SpatialProduct):
    """Mixin of layers that convolve as `nn.Conv1d` to `nn.Conv3d`, with a weight of shape (out, in/groups, *kernel)."""

    padding_value: int = 0
    """The value that `padding_mode="zeros"` pads with: 0, 1 or -1."""

    def multiply(self, input: Tensor, weight: Tensor, bias: Tensor | None, *args: Any) -> Tensor:
        """Convolve (N, C_in, *size), or without N, to (N, C_out, *size_out), padded as the layer's options say."""
        layer: Any = self
        if self.padding_value == 0:
            output: Tensor = layer._conv_forward(input, weight, bias)
            return output
        padded = functional.pad(input, layer._reversed_padding_repeated_twice, value=self.padding_value)
        convolve = (functional.conv1d, functional.conv2d, functional.conv3d)[weight.dim() - 3]
        return convolve(padded, weight, bias, layer.stride, 0, layer.dilation, layer.groups)


class TakesOutputSize:
    """Mixin, before a layer's other bases, for the arguments of `nn.ConvTranspose1d` to `nn.ConvTranspose3d`."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Run the layer; `output_size` chooses the size of its output if the stride leaves several."""
        output: Tensor = super().forward(input, output_size)  # type: ignore[misc]
        return output


class TransposedConvProduct(SpatialProduct):
    """Mixin of layers that convolve as `nn.ConvTranspose1d` to `nn.ConvTranspose3d` do.

    Their weight has the shape (in, out/groups, *kernel).
    """

    channel_dims = (0, 2)

    def multiply(
        self, input: Tensor, weight: Tensor, bias: Tensor | None, output_size: list[int] | None = None, *args: Any
    ) -> Tensor:
        """Convolve, transposed, (N, C_in, *size) to (N, C_out, *size_out), which `output_size` chooses if given.

        N is optional.
        """
        layer: Any = self
        spatial = weight.dim() - 2
        output_padding = layer._output_padding(
            input, output_size, layer.stride, layer.padding, layer.kernel_size, spatial, layer.dilation
        )
        functions = (functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d)
        return functions[spatial - 1](
            input, weight, bias, layer.stride, layer.padding, output_padding, layer.groups, layer.dilation
        )

    def output_channels(self, weight_shape: tuple[int, ...]) -> int:
        """Return the number of output channels of all groups together."""
        layer: Any = self
        return int(layer.groups) * weight_shape[1]

    def by_channel(self, weight: Tensor) -> Tensor:
        """View as (groups, in/groups, out/groups, *kernel); channel o is (o // (out/groups), o % (out/groups))."""
        layer: Any = self
        view: Tensor = weight.unflatten(0, (layer.groups, -1))
        return view


def _sums_exactly(result: Tensor) -> bool:
    """Return True if the engine of a product adds signs one by one, as oneDNN does; NNPACK transforms patches."""
    if torch.compiler.is_compiling():
        return True
    onednn = torch.backends.mkldnn
    return result.device.type == "cpu" and bool(onednn.enabled) and onednn.is_available()
