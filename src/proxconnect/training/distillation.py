"""Distillation: a loss by which a network learns from the logits and features of a frozen teacher."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax, normalize

from proxconnect._support.arguments import number, positive, require_callable, require_module, require_type
from proxconnect._support.text import with_article
from proxconnect.training.features import Features

_PATIENCE = 10
"""Calls after which the student moved, but no projection: optimizers that take turns have all made a step by then."""


def normalized_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean over examples of ||s/||s|| - t/||t||||², a scalar from 0 to 4, for features of shape (N, ...).

    It is the loss of Patient Knowledge Distillation (Sun 2019, arXiv 1908.09355): each example is one vector.
    """
    s, t = (normalize(_wide(feature).flatten(1), dim=1) for feature in (student, teacher))
    return (s - t).square().sum(1).mean()


class Distillation(nn.Module):
    """A loss by which a network, the student, learns from labels and from a frozen teacher, in any training loop.

    For logits s of the student and t of the teacher it is
    label_weight·label_loss(s, targets) + logit_weight·T²·KL(softmax(t/T) ‖ softmax(s/T)) (Hinton 2015, arXiv
    1503.02531) + feature_weight·(mean over features of distance(student's, teacher's)). A term of weight 0 is left out.

    The teacher is frozen: it goes to `eval()`, its parameters get `requires_grad_(False)`, and it runs without
    gradients. No state dict and no `parameters()` holds it, but `distillation.to(device)` moves it. The parameters of
    the Distillation are those of its projections. Give them to an optimizer, too:
    `[*student.parameters(), *distillation.parameters()]`. Under DistributedDataParallel also wrap a Distillation that
    has projections, which averages their gradients.

    Features are outputs of modules in the latest forward pass. Run the student once before each loss. Make the
    Distillation after `binarize`, and before the first call of a model that `torch.compile` wraps. `remove()`, or the
    end of a `with`, removes its hooks; call it before you pack or copy the student.

    Args:
        student: the network that learns.
        teacher: the network to learn from, with logits of the same shape; it shares no parameter with the student.
        label_weight, logit_weight, feature_weight: the weights of the terms, at least 0.
        temperature: T, positive.
        features: names of modules, for student and teacher alike, or a mapping from the student's to the teacher's. A
            module must run once in a forward pass. If its output is a tuple, list or mapping, the first entry counts.
        projections: modules by the student's names, as `nn.Conv2d(16, 32, 1)`, that give a feature the teacher's shape.
        label_loss: the loss of (logits, targets).
        distance: the distance of (student's feature s, teacher's feature t), both (N, ...), as a scalar. By default it
            is the mean over examples of ||s/||s|| - t/||t||||² (Sun 2019, arXiv 1908.09355), from 0 to 4. TinyBERT
            (Jiao 2020, arXiv 1909.10351) takes `mse_loss` of torch.

    Raises:
        ValueError: a module does not exist, a projection is of no feature, student and teacher share parameters, or a
            weight or the temperature is out of range.
        TypeError: an argument has another type.

    Example:
        >>> from proxconnect.training import Distillation
        >>> teacher = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))
        >>> student = pc.binarize(copy.deepcopy(teacher), "bnn++")
        >>> x, y = torch.randn(16, 4), torch.randint(2, (16,))
        >>> with Distillation(student, teacher, features=["1", "3"]) as distillation:
        ...     loss = distillation(student(x), y, x)
        >>> loss.backward()
    """

    def __init__(
        self, student: nn.Module, teacher: nn.Module, *, label_weight: float = 0.5, logit_weight: float = 0.5,
        feature_weight: float = 1.0, temperature: float = 1.0, features: Sequence[str] | Mapping[str, str] = (),
        projections: Mapping[str, nn.Module] | None = None,
        label_loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
        distance: Callable[[Tensor, Tensor], Tensor] = normalized_distance,
    ) -> None:  # fmt: skip
        super().__init__()
        require_module(student, "Distillation(student, teacher)")
        require_type(teacher, nn.Module, "Distillation(student, teacher) takes an nn.Module as teacher")
        require_callable(label_loss, "label_loss takes a function of logits and targets")
        require_callable(distance, "distance takes a function of two features")
        self.label_weight = _weight(label_weight, "label_weight")
        self.logit_weight = _weight(logit_weight, "logit_weight")
        self.feature_weight = _weight(feature_weight, "feature_weight")
        self.temperature = positive(temperature, "temperature")
        self.label_loss, self.distance = label_loss, distance
        self._names = _names(features)
        if not (self.label_weight or self.logit_weight or (self.feature_weight and self._names)):
            raise ValueError("the loss has no term: give a positive label_weight or logit_weight, or features")
        self.projections = _projections(projections or {}, self._names)
        _require_apart(student, teacher)
        self._teacher = (teacher.eval().requires_grad_(False),)  # a module would become a submodule
        self._trained = tuple(p for p in student.parameters() if p.requires_grad)
        self._versions, self._stuck = [0, 0], 0
        self._of_student = Features(student, list(self._names), "student")
        self._of_teacher = Features(teacher, list(self._names.values()), "teacher")

    @property
    def teacher(self) -> nn.Module:
        """The frozen teacher, in `eval()`."""
        return self._teacher[0]

    def forward(self, output: Any, targets: Any, inputs: Any) -> Tensor:
        """Return the loss, a differentiable scalar of float32 or wider.

        Args:
            output: the student's output for `inputs`: logits (N, classes) or (N, tokens, classes), or a ModelOutput or
                mapping with `logits`. Without terms of labels and logits it is not read.
            targets: as `label_loss` takes them; None if there is no term of labels.
            inputs: the input of the teacher: a tensor, a tuple of arguments or a mapping of keyword arguments.

        Raises:
            ValueError: logits or features of student and teacher differ in shape, a feature has no gradient, targets
                are missing, or the teacher is on another device.
            RuntimeError: the module of a feature ran not at all or several times since the last loss, or no optimizer
                moves the projections.
            TypeError: an output has no `logits`, or a feature is no tensor.
        """
        self._require_moving()
        features = self._of_student.take()
        answer = self._ask(inputs)
        wanted = self._of_teacher.take()
        terms = []
        if self.label_weight:
            if targets is None:
                raise ValueError("targets is None: pass the labels, or make the Distillation with label_weight=0")
            terms.append(self.label_weight * self.label_loss(_logits(output, "student"), targets))
        if self.logit_weight:
            terms.append(self.logit_weight * self._divergence(_logits(output, "student"), _logits(answer, "teacher")))
        if self.feature_weight and features:
            terms.append(self.feature_weight * self._mean_distance(features, wanted))
        return sum(terms[1:], terms[0])

    def remove(self) -> None:
        """Remove the hooks from student and teacher; a loss with features is an error afterwards."""
        self._of_student.remove()
        self._of_teacher.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.remove()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move the teacher, too, to another device or type."""
        self.teacher._apply(fn, recurse)
        super()._apply(fn, recurse)
        return self

    @torch.no_grad()
    def _ask(self, inputs: Any) -> Any:
        teacher = self.teacher.eval()  # a loop may have called train() on a module that holds it
        try:
            if isinstance(inputs, Mapping):
                return teacher(**inputs)
            return teacher(*inputs) if isinstance(inputs, tuple | list) else teacher(inputs)
        except RuntimeError as error:
            devices = [next((p.device for p in ps), None) for ps in (teacher.parameters(), self._trained)]
            if None not in devices and devices[0] != devices[1]:
                error.add_note(f"The teacher is on {devices[0]} and the student on {devices[1]}: call "
                               "distillation.to(device)")  # fmt: skip
            raise

    def _divergence(self, logits: Tensor, wanted: Tensor) -> Tensor:
        """Return T²·KL(softmax(wanted/T) ‖ softmax(logits/T)), the mean over examples, or over their tokens."""
        if logits.shape != wanted.shape or logits.dim() not in (2, 3):
            raise ValueError("logits of student and teacher must have one shape (N, classes) or (N, tokens, classes); "
                             f"got {_shape(logits)} and {_shape(wanted)}")  # fmt: skip
        log_answers, log_wanted = (
            log_softmax(each.flatten(0, -2) / self.temperature, dim=1) for each in (logits, wanted)
        )
        return self.temperature**2 * kl_div(log_answers, log_wanted, reduction="batchmean", log_target=True)

    def _mean_distance(self, features: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Tensor:
        """Return the mean distance of the student's features, projected, from those of the teacher."""
        distances = []
        for (name, of_teacher), projection in zip(self._names.items(), self.projections, strict=True):
            if torch.is_grad_enabled() and not features[name].requires_grad:
                raise ValueError(f"the student's feature {name!r} has no gradient: run the student with gradients, "
                                 "name a later module, or give use_reentrant=False to checkpoint")  # fmt: skip
            feature, target = projection(features[name]), wanted[of_teacher]
            if feature.shape != target.shape:
                raise ValueError(
                    f"the student's feature {name!r} has shape {_shape(feature)} and the teacher's {of_teacher!r} has "
                    f"{_shape(target)}: name others, or give projections={{{name!r}: {_suggested(feature, target)}}}"
                )
            distances.append(self.distance(feature, target))
        return torch.stack(distances).mean()

    def _require_moving(self) -> None:
        """Raise RuntimeError if optimizers move the student, but not the projections."""
        projections = [p for p in self.parameters() if p.requires_grad]
        if not projections or not self.feature_weight or not torch.is_grad_enabled():
            return
        versions = [sum(p._version for p in parameters) for parameters in (self._trained, projections)]
        moved, followed = (now != before for now, before in zip(versions, self._versions, strict=True))
        self._stuck = 0 if followed else self._stuck + moved
        self._versions = versions
        if self._stuck > _PATIENCE:
            raise RuntimeError(
                f"optimizers moved the student {_PATIENCE} times and the projections never: give an optimizer "
                "[*student.parameters(), *distillation.parameters()], or call requires_grad_(False) on projections"
            )


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _weight(value: object, name: str) -> float:
    weight = number(value, name)
    if not 0 <= weight < math.inf:
        raise ValueError(f"{name} must be at least 0 and finite; got {weight:g}")
    return weight


def _names(features: Any) -> dict[str, str]:
    """Return the teacher's name for each of the student's."""
    require_type(features, list | tuple | Mapping, "features takes a list of names, or a mapping from the student's to "
                                                   "the teacher's")  # fmt: skip
    names = dict(features) if isinstance(features, Mapping) else {name: name for name in features}
    for name in (*names.keys(), *names.values()):
        require_type(name, str, "features takes names of modules")
    return names


def _projections(given: Any, names: Mapping[str, str]) -> nn.ModuleList:
    """Return a module for each feature, in the order of `names`."""
    require_type(given, Mapping, "projections takes a mapping from the student's names to modules")
    for name, module in given.items():
        require_type(module, nn.Module, "projections takes modules, as nn.Conv2d(16, 32, 1)")
        if name not in names:
            raise ValueError(f"projections: there is no feature {name!r} but {', '.join(map(repr, names)) or 'none'}")
    return nn.ModuleList(given.get(name, nn.Identity()) for name in names)


def _require_apart(student: nn.Module, teacher: nn.Module) -> None:
    own = {id(parameter) for parameter in student.parameters()}
    if any(id(parameter) in own for parameter in teacher.parameters()):
        raise ValueError("student and teacher share parameters, which would be frozen: pass copy.deepcopy(model) as "
                         "teacher, and do not make it a submodule of the student")  # fmt: skip


def _logits(output: Any, role: str) -> Tensor:
    logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", output)
    if not isinstance(logits, Tensor):
        raise TypeError(f"the output of the {role} is {with_article(type(output).__name__)} without `logits`: "
                        "return logits, or give label_weight=0 and logit_weight=0")  # fmt: skip
    return _wide(logits)


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)


def _suggested(feature: Tensor, target: Tensor) -> str:
    """Return code for a projection from a feature to the shape of another, if only their channels differ."""
    if feature.dim() == 4:
        return f"nn.Conv2d({feature.shape[1]}, {target.shape[1]}, 1)"
    return f"nn.Linear({feature.shape[-1]}, {target.shape[-1]})"
