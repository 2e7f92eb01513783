"""Quantizers: forward-backward pairs applied to tensors, with a scale and a sharpness μ."""

from proxconnect.quantizer.quantizer import Quantizer

__all__ = ["Quantizer"]
