"""Modules around a model, which give its layers names that its architecture does not have."""

from torch import nn

_INNER = {
    ("torch._dynamo.eval_frame", "OptimizedModule"): "_orig_mod",
    ("torch.nn.parallel.distributed", "DistributedDataParallel"): "module",
    ("torch.nn.parallel.data_parallel", "DataParallel"): "module",
    ("torch.optim.swa_utils", "AveragedModel"): "module",
}
"""The attribute with the inner model, by module and name of the class: importing the first costs seconds."""


def require_unwrapped(model: nn.Module, call: str) -> None:
    """ValueError for a wrapped model; `call` is what to call on the inner one, as "pc.pack({})"."""
    for cls in type(model).__mro__:
        inner = _INNER.get((cls.__module__, cls.__qualname__))
        if inner is not None:
            raise ValueError(
                f"the model is wrapped in {cls.__name__}, so that its layers have names in the file that its "
                f"architecture lacks: take the inner model, {call.format(f'model.{inner}')}"
            )
