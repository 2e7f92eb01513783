"""The choice of kernels for a latent: those of its device, or none."""

from torch import Tensor

from proxconnect.quantizer import compiled, on_gpu
from proxconnect.quantizer.forms import SHARPNESSES, Form
from proxconnect.quantizer.rows import rows_of
from proxconnect.quantizer.scales import Scale


def quantised(latent: Tensor, form: Form, scale: Scale, channel_dims: tuple[int, ...], mu: Tensor) -> Tensor | None:
    """Compute α·F(x), or (α/ᾱ)·F(x) for a learned scale to multiply; None if no kernels take this case.

    `scale` and `channel_dims` are those of a `Quantizer`, and `mu` its buffer.
    """
    is_on_cpu = compiled.is_plain(latent)
    if not is_on_cpu and not (on_gpu.is_plain(latent) and on_gpu.is_beside(mu, latent)):
        return None
    rows = rows_of(latent.shape, latent.stride(), scale, channel_dims)
    if rows is None:
        return None
    if not is_on_cpu:
        return on_gpu.quantise(latent, form, rows, mu, scale == "learned")
    sharpness = mu.item()
    if not SHARPNESSES[0] <= sharpness <= SHARPNESSES[1]:
        return None
    return compiled.quantise(latent, form, rows, sharpness, scale == "learned")
