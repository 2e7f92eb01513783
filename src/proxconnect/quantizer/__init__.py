"""Quantizers: forward-backward pairs applied to tensors, with a scale and a sharpness μ."""

from proxconnect.quantizer.quantizer import FLOAT_TYPES, UNSCALED_MAGNITUDE, Quantizer, Scale, overridden

__all__ = ["FLOAT_TYPES", "UNSCALED_MAGNITUDE", "Quantizer", "Scale", "overridden"]
