"""Thirty faults in the Python package."""

from planted.fault import Fault, fault

SRC = "src/proxconnect"
PAIRS: tuple[Fault, ...] = (
    fault(
        "jump-of-binaryrelax", "the prox of BinaryRelax jumps the wrong way", "pairs/test_prox.py",
        (f"{SRC}/pairs/prox.py", "x / mu + _jump(x, mu)", "x / mu - _jump(x, mu)"),
    ),
    fault(
        "derivative-of-sign-swish", "the derivative of sign-swish lacks a minus",
        "pairs/test_published.py pairs/test_conformance.py",
        (f"{SRC}/pairs/transform.py", "magnitude * -0.5", "magnitude * 0.5"),
    ),
    fault(
        "sharpness-zero", "μ = 0 belongs to the domain of every pair that starts at 0",
        "pairs/test_prox.py optim/test_sharpening.py pairs/test_conformance.py quantizer/test_quantizer.py",
        (f"{SRC}/pairs/part.py", "mu > 0 and mu >= self.lowest", "mu >= self.lowest"),
    ),
)  # fmt: skip

SCALES: tuple[Fault, ...] = (
    fault(
        "least-squares", "α divides by the energy of the latents instead of that of F", "quantizer/test_quantizer.py",
        (f"{SRC}/quantizer/scales.py", "quantised, quantised.square()", "quantised, latent.square()"),
    ),
    fault(
        "groups-of-a-transposed-convolution", "the scales of a grouped transposed convolution mix its groups",
        "layers/test_convolutions.py deploy/packed/test_packed_kinds.py",
        (f"{SRC}/layers/products.py", "unflatten(0, (layer.groups, -1))", "unflatten(0, (-1, layer.groups))"),
    ),
    fault(
        "unscaled-mask", "by torch, the mask of a gradient compares w* instead of w*/ᾱ with 1",
        "quantizer/test_quantizer.py quantizer/test_compiled.py",
        (f"{SRC}/quantizer/quantizer.py", "x if divisor is None else x / divisor, self.mu", "x, self.mu"),
    ),
)  # fmt: skip

SCHEDULE: tuple[Fault, ...] = (
    fault(
        "hold", "the steps of `hold` are part of the rise of μ", "optim/test_sharpening.py",
        (f"{SRC}/optim/sharpening.py", "self._count / (self.steps - self.hold)", "self._count / self.steps"),
    ),
    fault(
        "resumed-sharpness", "loading an optimizer does not restore μ", "optim/test_sharpening.py",
        (f"{SRC}/optim/sharpening.py", "optimizer: Optimizer) -> None:\n        self._apply()",
         "optimizer: Optimizer) -> None:\n        return"),
    ),
    fault(
        "cumulative-group", "the cumulative schedule of each group adds the first group's learning rate",
        "optim/test_sharpening.py",
        (f"{SRC}/optim/sharpening.py", "learning_rate(group)", "learning_rate(optimizer.param_groups[0])"),
    ),
)  # fmt: skip

PACKING: tuple[Fault, ...] = (
    fault(
        "bit-order", "bits are unpacked from the highest to the lowest", "kernels/test_bits.py",
        (f"{SRC}/kernels/bits.py", "values.unsqueeze(1) >> places", "values.unsqueeze(1) >> 7 - places"),
    ),
    fault(
        "padding-bits", "the bits behind the last sign of a tensor are 1", "kernels/test_bits.py",
        (f"{SRC}/kernels/bits.py", "torch.zeros(8 * byte_count", "torch.ones(8 * byte_count"),
    ),
    fault(
        "dtype-of-a-scale", "a packed scale is float32 whatever the layer's dtype",
        "deploy/packed/test_pack.py deploy/packed/test_packed_kinds.py",
        (f"{SRC}/deploy/packed/packing.py", "hard_scale.to(layer.latent.dtype, copy=True)",
         "hard_scale.to(torch.float32, copy=True)"),
    ),
    fault(
        "threshold-at-zero", "between two layers of signs, a sum that becomes 0 is -1",
        "deploy/fusion/test_intervals.py",
        (f"{SRC}/deploy/fusion/binary_products.py", "channels) >= 0", "channels) > 0"),
    ),
)  # fmt: skip

READER: tuple[Fault, ...] = (
    fault(
        "unchecked-dtype", "the dtype of a tensor in a file is not compared with the model's",
        "deploy/packed/test_packed_file.py deploy/packed/test_damaged_files.py",
        (f"{SRC}/deploy/packed/file/save_and_load.py", "if inside != outside and not",
         "if inside[1] != outside[1] and not"),
    ),
    fault(
        "unchecked-version", "a file of the next layout version is read",
        "deploy/packed/test_damaged_files.py deploy/packed/test_packed_file.py",
        (f"{SRC}/deploy/packed/file/metadata.py", "if version > VERSION:", "if version > VERSION + 1:"),
    ),
    fault(
        "unchecked-length", "more bytes than a tensor's signs need are taken",
        "kernels/test_bits.py deploy/packed/test_damaged_files.py",
        (f"{SRC}/kernels/bits.py", "bits.shape != (byte_count(entries),)", "bits.numel() < byte_count(entries)"),
    ),
)  # fmt: skip

FUSION: tuple[Fault, ...] = (
    fault(
        "epsilon-of-a-norm", "a folded batch norm has torch's usual ε instead of its own",
        "deploy/fusion/test_norms.py deploy/fusion/test_fused_forward.py deploy/fusion/test_intervals.py",
        (f"{SRC}/deploy/fusion/steps.py", "norm.weight, bias, eps=norm.eps)", "norm.weight, bias)"),
    ),
    fault(
        "factor-of-an-addition", "torch.add(x, y, alpha=2) is fused as x + y",
        "deploy/fusion/test_adding.py deploy/fusion/test_trace.py deploy/fusion/test_fused_forward.py",
        (f"{SRC}/deploy/fusion/steps.py", "len(node.args) != 2 or node.kwargs:", "len(node.args) != 2:"),
    ),
    fault(
        "order-of-steps", "the steps that follow a product run in the reverse order",
        "deploy/fusion/test_fused_forward.py deploy/fusion/test_norms.py",
        (f"{SRC}/deploy/fusion/steps.py", "made.append(kernel_step)", "made.insert(0, kernel_step)"),
    ),
)  # fmt: skip

PROOF: tuple[Fault, ...] = (
    fault(
        "nan-proves", "NaN in one of two answers counts as equal",
        "deploy/fusion/test_proof.py deploy/fusion/test_planted_faults.py",
        (f"{SRC}/deploy/fusion/proof.py", "(right.isnan() & mine.isnan())", "(right.isnan() | mine.isnan())"),
        (f"{SRC}/deploy/fusion/closeness.py", "(mine.isnan() & right.isnan())", "(mine.isnan() | right.isnan())"),
    ),
    fault(
        "tolerance-of-signs", "layers with binary inputs may differ by a rounding error",
        "deploy/fusion/test_proof.py deploy/fusion/test_planted_faults.py",
        (f"{SRC}/deploy/fusion/proof.py", "0.0 if mine.has_binary_input else ROUNDING", "ROUNDING"),
    ),
)  # fmt: skip

TRAINING: tuple[Fault, ...] = (
    fault(
        "wrap-at-the-bound", "an accumulator of b bits wraps at 2^(b-1) + 1", "kernels/test_accumulator.py",
        (f"{SRC}/kernels/accumulator.py", "torch.floor(sums / modulus + 0.5)", "torch.round(sums / modulus)"),
    ),
    fault(
        "newest-gradient-of-bop", "Bop weighs the newest gradient by 1 - γ", "optim/test_bop.py",
        (f"{SRC}/optim/bop.py", ".lerp_(latent.grad, gamma)", ".lerp_(latent.grad, 1 - gamma)"),
    ),
    fault(
        "scale-of-a-prox-point", "update rules overwrite latents with P(w*/ᾱ), without ᾱ", "optim/test_update_rules.py",
        (f"{SRC}/optim/update_rules.py", "(alpha_bar * pair.prox(x, mu))", "pair.prox(x, mu)"),
    ),
    fault(
        "closure-of-a-hard-step", "a step with a closure trains hard weights", "layers/test_step_guard.py",
        (f"{SRC}/layers/base.py", "(has_closure or layer.latent.grad is not None)", "layer.latent.grad is not None"),
    ),
    fault(
        "soft-weights-in-a-hard-state-dict", "hard_state_dict takes the soft weights in train()",
        "deploy/test_hardening.py",
        (f"{SRC}/deploy/hardening.py", "layer.binary_weight if is_binary else layer.weight", "layer.weight"),
    ),
    fault(
        "edge-beside-a-layer", "a layer that sees the raw input beside another layer's answer counts as an edge",
        "conversion/test_edges.py",
        (f"{SRC}/conversion/flow.py", "if call.upstream == RAW", "if call.upstream & RAW"),
    ),
)  # fmt: skip

THEORY_AND_EXPORT: tuple[Fault, ...] = (
    fault(
        "falling-prox", "the verdict does not look for a P that falls",
        "theory/test_verdicts.py theory/test_mutants.py",
        (f"{SRC}/theory/verdicts/decomposition.py", "        *rules.falling(sampled),\n", ""),
    ),
    fault(
        "drift-of-the-potential", "the certificate's bound has the drift of Φ with the wrong sign",
        "theory/test_certificate.py",
        (f"{SRC}/theory/certificates/certificate.py", "0.0 - a.moved[w].cumsum(0)", "a.moved[w].cumsum(0)"),
    ),
    fault(
        "exported-sign-of-zero", "ONNX files take the sign of 0 as -1",
        "export/test_floats.py export/test_runtimes.py",
        (f"{SRC}/export/onnx.py", "op.GreaterOrEqual(input, zero)", "op.Greater(input, zero)"),
    ),
)  # fmt: skip

PYTHON_FAULTS = (
    *PAIRS, *SCALES, *SCHEDULE, *PACKING, *READER, *FUSION, *PROOF, *TRAINING, *THEORY_AND_EXPORT,
)  # fmt: skip
