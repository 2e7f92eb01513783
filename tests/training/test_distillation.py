"""`Distillation` against a reference of a few lines, and against the ways in which a loop can go wrong."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax

import proxconnect as pc
from proxconnect.training import Distillation

X, Y = torch.randn(6, 5, requires_grad=True), torch.tensor([0, 1, 2, 0, 1, 2])
"""Inputs that want gradients, of which none may come through the teacher, and labels."""


def net(width=8):
    return nn.Sequential(
        nn.Linear(5, width), nn.BatchNorm1d(width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 3)
    )


def pair(width=8):
    """A binary student and a float teacher that is `width` wide."""
    torch.manual_seed(0)
    return pc.binarize(net(), "bnn++"), net(width)


def reference(student, teacher, x, y, temperature=1.0, places=(), project=lambda feature: feature, **weights):
    """The loss by torch's kl_div, and features by running the layers up to them."""
    teacher = copy.deepcopy(teacher).eval()
    weights = {"label": 0.5, "logit": 0.5, "feature": 1.0} | weights
    logits, wanted = student(x), teacher(x).detach()
    loss = weights["label"] * cross_entropy(logits, y)
    divergence = kl_div(log_softmax(logits / temperature, 1), softmax(wanted / temperature, 1), reduction="none")
    loss = loss + weights["logit"] * temperature**2 * divergence.sum() / len(x)
    for place in places:
        s, t = project(student[: place + 1](x)), teacher[: place + 1](x).detach()
        cosines = (s * t).sum(1) / (s.norm(dim=1) * t.norm(dim=1))
        loss = loss + weights["feature"] * (2 - 2 * cosines).mean() / len(places)
    return loss


def gradients(loss, modules):
    return torch.autograd.grad(loss, [X, *(p for module in modules for p in module.parameters())], retain_graph=True)


def assert_same(loss, expected, *modules):
    torch.testing.assert_close(loss, expected)
    for one, other in zip(gradients(loss, modules), gradients(expected, modules), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_logits_are_learned_by_the_divergence_of_torch(temperature):
    student, teacher = pair()
    student[1].eval()  # or the reference would change its statistics
    distillation = Distillation(student, teacher, label_weight=0.3, logit_weight=0.7, temperature=temperature)
    expected = reference(student, teacher, X, Y, temperature, label=0.3, logit=0.7)
    assert_same(distillation(student(X), Y, X), expected, student)


def test_each_token_is_an_example():
    """As in a language model, whose logits are (N, tokens, classes)."""
    student, teacher, tokens = nn.Linear(4, 3), nn.Linear(4, 3), torch.randn(2, 5, 4)
    distillation = Distillation(student, teacher, label_weight=0, temperature=2.0)
    by_rows = distillation(student(tokens.flatten(0, 1)), None, tokens.flatten(0, 1))
    torch.testing.assert_close(distillation(student(tokens), None, tokens), by_rows)


def test_features_are_learned_by_their_cosines_and_projections_with_them():
    student, teacher = pair(width=12)
    student[1].eval()
    project = nn.Linear(8, 12)
    distillation = Distillation(student, teacher, features=["4"], projections={"4": project}, feature_weight=0.4)
    expected = reference(student, teacher, X, Y, places=[4], project=project, feature=0.4)
    assert_same(distillation(student(X), Y, X), expected, student, project)


def test_the_mean_over_features_counts_and_a_feature_may_have_another_name_and_use():
    student, teacher = pair()
    student[1].eval()
    expected = reference(student, teacher, X, Y, places=[2, 4])
    assert_same(Distillation(student, teacher, features=["2", "4"])(student(X), Y, X), expected, student)
    crossed = Distillation(student, teacher, features={"4": "2"}, label_weight=0, logit_weight=0,
                           distance=lambda s, t: (s - t).abs().max())  # fmt: skip
    student(X)
    torch.testing.assert_close(crossed(None, None, (X,)), (student[:5](X) - teacher[:3](X)).abs().max())


def test_losses_of_several_batches_add_up_before_a_step():
    student, teacher = pair()
    student[1].eval()
    distillation = Distillation(student, teacher, features=["4"])
    losses = [distillation(student(x), y, x) for x, y in zip(X.split(3), Y.split(3), strict=True)]
    expected = [reference(student, teacher, x, y, places=[4]) for x, y in zip(X.split(3), Y.split(3), strict=True)]
    assert_same(sum(losses), sum(expected), student)


def test_the_teacher_stays_as_it_is_whatever_the_loop_does():
    student, teacher = pair()
    before = copy.deepcopy(teacher.state_dict())
    holder = nn.ModuleList([student, teacher])
    distillation = Distillation(student, teacher, features=["4"])
    optimizer = torch.optim.AdamW(holder.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(2):
        holder.train()
        optimizer.zero_grad()
        distillation(student(X), Y, X).backward()
        optimizer.step()
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())
    assert not any(module.training for module in teacher.modules())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert student[1].training
    assert [*distillation.parameters(), *distillation.state_dict()] == []
    assert student.state_dict().keys() == pair()[0].state_dict().keys()


def test_removed_hooks_leave_nothing():
    student, teacher = pair()
    with Distillation(student, teacher, features=["2", "4"]) as distillation:
        student(X)
        assert copy.deepcopy(student)[4]._forward_hooks  # an activation is no leaf, and could not be copied
        distillation(student(X), Y, X)
    modules = [*student.modules(), *teacher.modules()]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in modules)
    with pytest.raises(RuntimeError, match=r"'2' of the student has not run .* call remove\(\) only at the end"):
        distillation(student(X), Y, X)


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_the_loss_is_float32_under_autocast(precision):
    student, teacher = pair()
    distillation = Distillation(student, teacher, features=["4"])
    with torch.autocast("cpu", precision):
        loss = distillation(student(X), Y, X)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, distillation(student(X), Y, X), rtol=0.02, atol=0.02)


def test_the_loss_of_bfloat16_networks_is_float32():
    student, teacher = pair()
    distillation = Distillation(student, teacher, features=["4"])
    nn.ModuleList([student, distillation]).bfloat16()
    assert distillation(student(X.bfloat16()), Y, X.bfloat16()).dtype == torch.float32


def test_the_teacher_moves_with_the_distillation_and_a_forgotten_move_is_told():
    student, teacher = pair()
    distillation = Distillation(student, teacher, features=["4"])
    nn.ModuleList([student, distillation]).double()
    assert distillation(student(X.double()), Y, X.double()).dtype == torch.float64
    distillation.to("meta")
    with pytest.raises(RuntimeError) as caught:
        distillation(student(X.double()), Y, X.double())
    assert "on meta and the student on cpu: call distillation.to(device)" in caught.value.__notes__[0]


def test_a_compiled_student_gives_the_same_loss():
    student, teacher = pair()
    student[1].eval()
    distillation = Distillation(student, teacher, features=["4"])
    compiled = torch.compile(student, backend="eager", fullgraph=True)
    expected = distillation(student(X), Y, X)
    for _ in range(2):
        assert_same(distillation(compiled(X), Y, X), expected, student)
        expected = distillation(student(X), Y, X)
    assert_same(Distillation(compiled, teacher, features=["4"])(student(X), Y, X), expected, student)


def test_under_ddp_names_are_those_of_the_student_and_projections_are_averaged_too(tmp_path):
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        student, teacher = pair(width=12)
        parallel = nn.parallel.DistributedDataParallel(student)
        distillation = Distillation(parallel, teacher, features=["4"], projections={"4": nn.Linear(8, 12)})
        nn.parallel.DistributedDataParallel(distillation)(parallel(X), Y, X).backward()
        assert all(p.grad is not None for p in [*student.parameters(), *distillation.parameters()])
    finally:
        torch.distributed.destroy_process_group()


def train(held, **options):
    """Twelve steps by AdamW of the parameters of `held(student, distillation)`."""
    student, teacher = pair(width=12)
    distillation = Distillation(student, teacher, features=["4"], projections={"4": nn.Linear(8, 12)})
    optimizer = torch.optim.AdamW([p for module in held(student, distillation) for p in module.parameters()], **options)
    for _ in range(12):
        for _ in range(3):  # gradients accumulate
            distillation(student(X), Y, X).backward()
        optimizer.step()


def test_projections_that_no_optimizer_holds_are_an_error():
    with pytest.raises(RuntimeError, match=r"give an optimizer \[\*student\.parameters\(\), \*distillation\.param"):
        train(lambda student, distillation: [student])


@pytest.mark.parametrize("options", [{"fused": True}, {"foreach": True}, {"foreach": False}])
def test_projections_that_an_optimizer_holds_are_no_error(options):
    train(lambda student, distillation: [student, distillation], **options)
    train(lambda student, distillation: [distillation], **options)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.ModuleDict({"tanh": nn.Tanh(), "split": nn.LSTM(5, 5), "head": nn.Linear(5, 3)})

    def forward(self, x):
        self.inner["split"](x)
        return self.inner["head"](self.inner["tanh"](self.inner["tanh"](x)))


@pytest.mark.parametrize(
    ("features", "error", "said"),
    [
        (["inner.tan"], ValueError, r"student has no module 'inner\.tan': near names are 'inner\.tanh'"),
        (["head"], ValueError, r"student has no module 'head': near names are 'inner\.head'"),
        ({"inner.head": "head"}, ValueError, r"teacher has no module 'head': near names are 'inner\.head'"),
        (["inner.tanh"], RuntimeError, r"'inner\.tanh' of the student ran 2 times in one forward pass, so its feature"),
        (["inner"], RuntimeError, r"'inner' of the student has not run since the last loss"),
        ("inner", TypeError, r"features takes a list of names, or a mapping"),
    ],
)
def test_a_feature_that_is_none_is_named(features, error, said):
    student = Twice()
    with pytest.raises(error, match=said):
        Distillation(student, Twice(), features=features)(student(X), Y, X)


def test_a_feature_is_the_first_entry_of_an_output():
    student = Twice()
    loss = Distillation(student, copy.deepcopy(student), features=["inner.split"], logit_weight=0, label_weight=0)
    assert loss(student(X), None, X) < 1e-6


def test_what_cannot_be_learned_is_an_error():
    student, teacher = pair(width=12)
    with pytest.raises(ValueError, match=r"share parameters, which would be frozen: pass copy\.deepcopy\(model\)"):
        Distillation(student, student)
    wide = Distillation(student, teacher, features=["4"])
    with pytest.raises(ValueError, match=r"\(6, 8\) and the teacher's '4' has \(6, 12\).*\{'4': nn\.Linear\(8, 12\)\}"):
        wide(student(X), Y, X)
    with pytest.raises(RuntimeError, match=r"has not run since the last loss"):
        wide(torch.zeros(6, 3), Y, X)
    alike = Distillation(student, net(), features=["4"])
    with pytest.raises(ValueError, match=r"targets is None: pass the labels"):
        alike(student(X), None, X)
    with torch.no_grad():
        logits = student(X)
    with pytest.raises(ValueError, match=r"feature '4' has no gradient: run the student with gradients"):
        alike(logits, Y, X)
    with torch.no_grad():
        assert alike(student(X), Y, X).isfinite()
    with pytest.raises(ValueError, match=r"\(N, classes\) or \(N, tokens, classes\); got \(6, 2\) and \(6, 3\)"):
        Distillation(student, teacher, label_weight=0)(logits[:, :2], None, X)
    with pytest.raises(TypeError, match=r"the output of the student is a tuple without `logits`"):
        Distillation(student, teacher)((logits, logits), Y, X)
    with pytest.raises(ValueError, match=r"the loss has no term"):
        Distillation(student, teacher, label_weight=0, logit_weight=0)
    with pytest.raises(ValueError, match=r"there is no feature '3' but '4'"):
        Distillation(student, teacher, features=["4"], projections={"3": nn.Identity()})
