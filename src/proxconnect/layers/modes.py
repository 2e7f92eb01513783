"""Contexts that override how a model quantises, in `train()` and `eval()`, and restore it on any exception."""

from collections.abc import Iterator

from torch import nn

from proxconnect._support.model_context import model_context
from proxconnect.layers.base import BinaryLayer, watch
from proxconnect.quantizer.quantizer import overridden


@model_context
def hard(model: nn.Module) -> Iterator[nn.Module]:
    """Run `model` with hard weights and hard activations, even in `train()` and for the pair `fp`.

    Hard weights are ᾱ·sign(latent) or, with a learned scale s, s·sign(latent). Gradients flow with each pair's B. An
    optimizer step that moves latents in the context raises RuntimeError. Calling the context on inputs, as in
    `hard(model)(x)`, raises TypeError. It warns as `eval()` does if a soft pair was trained and nothing moved its μ.

    Example:
        >>> model = pc.binarize(nn.Sequential(nn.Linear(4, 4)), "pc", keep=None)
        >>> x = torch.randn(2, 4)
        >>> with pc.hard(model.train()):
        ...     y = model(x)
        >>> torch.equal(y, model.eval()(x))
        True
    """
    for module in model.modules():
        if isinstance(module, BinaryLayer):
            watch(module)
            module.warn_if_unmoved("hard()", stacklevel=5)
    with overridden(model, "hard"):
        yield model


@model_context
def soft(model: nn.Module) -> Iterator[nn.Module]:
    """Run `model` with the soft weights and activations of `train()`, F at the present μ, even in `eval()`.

    Use `with pc.soft(model.eval())` to measure the accuracy before hardening: batch norm and dropout are in `eval()`.
    The pair `fp` stays float, and so do weights that an update rule trains in full precision.

    Example:
        >>> model = pc.binarize(nn.Sequential(nn.Linear(4, 4)), "pc", keep=None)
        >>> x = torch.randn(2, 4)
        >>> with pc.soft(model.eval()):
        ...     y = model(x)
        >>> torch.equal(y, model.train()(x))
        True
    """
    with overridden(model, "soft"):
        yield model


@model_context
def full_precision(model: nn.Module) -> Iterator[nn.Module]:
    """Run `model` with its latent weights and float activations: nothing is quantised.

    Learned scales have no effect, but learned thresholds still shift inputs. A packed model has no latent weights and
    stays as it is.

    Example:
        >>> model = pc.binarize(nn.Sequential(nn.Linear(4, 4, bias=False)), "bc", keep=None)
        >>> x = torch.randn(2, 4)
        >>> with pc.full_precision(model):
        ...     torch.testing.assert_close(model(x), x @ model[0].latent.T)
    """
    with overridden(model, "full_precision"):
        yield model
