"""One run: what it measures, against measurements made by other means; the same in a worker process."""

from dataclasses import asdict, replace

import pytest
import torch
from small import some_digits

from proxconnect.cli.demo.demo import Options
from proxconnect.cli.demo.experiment import ARCHITECTURES, RECIPES, Run, accuracy, build, restore, train
from proxconnect.deploy.hardening import hard_state_dict
from proxconnect.layers import Accumulator, BinaryLayer
from proxconnect.training.study.rows import CHECKPOINT, Workplace
from proxconnect.training.study.running import Order, Processes, Progressed
from training.forks import fork_workers
from training.study.grids import InTurn

RECIPE = replace(RECIPES["digits"], epochs=2, batch_size=32)


@pytest.fixture(scope="module")
def digits():
    return some_digits()


@pytest.fixture(scope="module")
def bnnpp(digits):
    return train(Run("bnn++", "BW", "E2E", 0), RECIPE, digits)


def test_accuracy_is_that_of_a_float_network_with_weights_of_two_values(digits, bnnpp):
    network, measured = bnnpp
    model = ARCHITECTURES["digits"]()
    model.load_state_dict(hard_state_dict(network))
    weights = model.stages[0].conv.weight.flatten(1)
    assert torch.equal(weights.abs(), weights.abs()[:, :1].expand_as(weights))
    model.eval()
    right = sum(int(model(x[None]).argmax() == y) for x, y in zip(digits.test_images, digits.test_labels, strict=True))
    assert measured["accuracy"]["reestimated"] == right / len(digits.test_labels)


def test_sharpness_ends_at_the_usual_end(bnnpp):
    quantizers = [m.weight_quantizer for m in bnnpp[0].modules() if isinstance(m, BinaryLayer)]
    assert {float(q.mu) for q in quantizers} == {quantizers[0].sharpness.end}


def test_a_run_is_repeatable_and_the_seed_matters(digits, bnnpp):
    (again, _), (_, other) = (train(Run("bnn++", "BW", "E2E", seed), RECIPE, digits) for seed in (0, 1))
    assert all(torch.equal(again.state_dict()[key], value) for key, value in bnnpp[0].state_dict().items())
    assert other["curve"] != bnnpp[1]["curve"]


def test_fine_tuning_starts_from_the_float_network(digits):
    fp, measured = train(Run("fp", "float", "E2E", 0), RECIPE, digits)
    start = build(Run("bc", "BWA", "FT", 0), "digits", fp.state_dict())
    latents = {k.replace("latent", "weight"): v for k, v in start.state_dict().items() if "latent" in k}
    assert len(latents) == 4
    assert all(torch.equal(fp.state_dict()[key], latent) for key, latent in latents.items())
    expected = accuracy(fp, digits.test_images, digits.test_labels)
    assert measured["accuracy"] == {"hard": expected, "reestimated": expected}


@pytest.mark.parametrize(("mode", "accumulator"), [("BWA", None), ("BWAA", Accumulator(5, "saturate"))])
def test_a_run_holds_its_sums_in_its_accumulator(digits, mode, accumulator):
    model, _ = train(Run("bc", mode, "E2E", 0, accumulator), replace(RECIPE, epochs=1), digits)
    layers = [m for m in model.modules() if isinstance(m, BinaryLayer)]
    assert {layer.accumulator for layer in layers} == {accumulator}
    assert all(layer.input_quantizer is not None for layer in layers)


def test_a_start_without_its_state_is_refused(digits):
    with pytest.raises(ValueError, match="FT starts from the state of a float network"):
        train(Run("bc", "BW", "FT", 0), RECIPE, digits)


def test_too_few_images_for_a_batch(digits):
    with pytest.raises(ValueError, match="128 training images fill no batch of 129"):
        train(Run("fp", "float", "E2E", 0), replace(RECIPE, batch_size=129), digits)


def test_a_worker_process_gives_what_this_process_gives(tmp_path, monkeypatch):
    fork_workers(monkeypatch)
    options = Options(pairs=("bnn",), modes=("BWAA",), starts=("FT",), seeds=1, epochs=1)
    places = {"here": InTurn(), "there": Processes(1)}
    found = {}
    for place, workers in places.items():
        workplace = Workplace(tmp_path / place)
        with workers:
            for run, row in options.runs.items():
                workers.give(Order(row, workplace, 1))
                *progress, entry = _until_it_ends(workers)
                assert progress == [Progressed(row.key, 1, 1)]
                state = restore(run, "digits", workplace.folder(row) / CHECKPOINT).state_dict()
                found[place, run] = entry.measured | {"seconds": None}, state
    for run in options.runs:
        (one, here), (other, there) = found["here", run], found["there", run]
        assert one == other
        assert all(torch.equal(here[key], value) for key, value in there.items())
        assert asdict(run)["accumulator"] is None or build(run, "digits").stages[0].conv.accumulator == run.accumulator


def _until_it_ends(workers):
    events = []
    while not events or isinstance(events[-1], Progressed):
        events += workers.events()
    return events
