"""One run: what it measures, against measurements made by other means; the same in a worker process."""

from dataclasses import replace

import pytest
import torch
from small import some_digits

from proxconnect.cli.demo import workers
from proxconnect.cli.demo.experiment import ARCHITECTURES, RECIPES, Run, accuracy, build, restore, train
from proxconnect.deploy.hardening import hard_state_dict
from proxconnect.layers import Accumulator, BinaryLayer

RECIPE = replace(RECIPES["digits"], epochs=2, batch_size=32)


@pytest.fixture(scope="module")
def digits():
    return some_digits()


@pytest.fixture(scope="module")
def bnnpp(digits):
    return train(Run("bnn++", "BW", "E2E", 0), RECIPE, digits)


def test_accuracy_is_that_of_a_float_network_with_weights_of_two_values(digits, bnnpp):
    model = ARCHITECTURES["digits"]()
    model.load_state_dict(hard_state_dict(restore(bnnpp, "digits")))
    weights = model.stages[0].conv.weight.flatten(1)
    assert torch.equal(weights.abs(), weights.abs()[:, :1].expand_as(weights))
    model.eval()
    right = sum(int(model(x[None]).argmax() == y) for x, y in zip(digits.test_images, digits.test_labels, strict=True))
    assert bnnpp.accuracy_after == right / len(digits.test_labels)


def test_sharpness_ends_at_the_usual_end(bnnpp):
    quantizers = [m.weight_quantizer for m in restore(bnnpp, "digits").modules() if isinstance(m, BinaryLayer)]
    assert {float(q.mu) for q in quantizers} == {quantizers[0].sharpness.end}


def test_a_run_is_repeatable_and_the_seed_matters(digits, bnnpp):
    again = train(bnnpp.run, RECIPE, digits)
    other = train(replace(bnnpp.run, seed=1), RECIPE, digits)
    assert all(torch.equal(again.state[key], value) for key, value in bnnpp.state.items())
    assert other.epochs != bnnpp.epochs


def test_fine_tuning_starts_from_the_float_network(digits):
    fp = train(Run("fp", "float", "E2E", 0), RECIPE, digits)
    start = build(Run("bc", "BWA", "FT", 0), "digits", fp.state)
    latents = {k.replace("latent", "weight"): v for k, v in start.state_dict().items() if "latent" in k}
    assert len(latents) == 4
    assert all(torch.equal(fp.state[key], latent) for key, latent in latents.items())
    assert (
        fp.accuracy_before
        == fp.accuracy_after
        == accuracy(restore(fp, "digits"), digits.test_images, digits.test_labels)
    )


@pytest.mark.parametrize(("mode", "accumulator"), [("BWA", None), ("BWAA", Accumulator(5, "saturate"))])
def test_a_run_holds_its_sums_in_its_accumulator(digits, mode, accumulator):
    outcome = train(Run("bc", mode, "E2E", 0, accumulator), replace(RECIPE, epochs=1), digits)
    layers = [m for m in restore(outcome, "digits").modules() if isinstance(m, BinaryLayer)]
    assert {layer.accumulator for layer in layers} == {accumulator}
    assert all(layer.input_quantizer is not None for layer in layers)


def test_a_start_without_its_state_is_refused(digits):
    with pytest.raises(ValueError, match="FT starts from the state of a float network"):
        train(Run("bc", "BW", "FT", 0), RECIPE, digits)


def test_too_few_images_for_a_batch(digits):
    with pytest.raises(ValueError, match="128 training images fill no batch of 129"):
        train(Run("fp", "float", "E2E", 0), replace(RECIPE, batch_size=129), digits)


def test_a_worker_process_gives_what_this_process_gives():
    from proxconnect.training import data

    recipe = replace(RECIPE, epochs=1, batch_size=256)
    runs = [Run("fp", "float", "E2E", 0), Run("bnn", "BW", "FT", 0)]
    epochs = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        here = list(workers.in_turn(runs, recipe, data.digits(), lambda: epochs.append("here")))
    finally:
        torch.set_num_threads(threads)
    there = list(workers.in_parallel(runs, recipe, "digits", None, 1, lambda: epochs.append("there")))
    assert [o.run for o in there] == runs
    for a, b in zip(here, there, strict=True):
        assert a.epochs == b.epochs
        assert all(torch.equal(a.state[key], value) for key, value in b.state.items())
    assert epochs == ["here", "here", "there", "there"]


def test_a_failure_in_a_worker_is_reported(tmp_path):
    runs = [Run("fp", "float", "E2E", 0)]
    with pytest.raises(workers.WorkerError, match=r"(?s)failed in a worker process.*apt install"):
        list(workers.in_parallel(runs, RECIPE, "fashion-mnist", tmp_path, 1, lambda: None))
