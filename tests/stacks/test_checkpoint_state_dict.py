"""torch.distributed.checkpoint's get_state_dict and set_state_dict in one process.

They step an optimizer that has no state with learning rate 0, to give it one.
"""

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict

from proxconnect import Sharpening
from stacks.nets import (
    OPTIMIZERS,
    STEPS,
    batches,
    distance,
    net,
    net_and_optimizer,
    scheduled,
    sharpnesses,
    state,
    train,
)

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")  # as is meant here


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_loaded_checkpoint_brings_mu_back_and_goes_on_as_unbroken(name, flat, tmp_path):
    options, data = StateDictOptions(flatten_optimizer_state_dict=flat), batches()
    model, optimizer, _ = net_and_optimizer(name)
    train(model, optimizer, data[:2])
    weights, steps = get_state_dict(model, optimizer, options=options)
    dcp.save({"model": weights, "optimizer": steps}, checkpoint_id=tmp_path)
    train(model, optimizer, data[2:])

    fresh, its_optimizer, sharpening = net_and_optimizer(name, seed=1)
    weights, steps = get_state_dict(fresh, its_optimizer, options=options)
    dcp.load({"model": weights, "optimizer": steps}, checkpoint_id=tmp_path)
    set_state_dict(fresh, its_optimizer, model_state_dict=weights, optim_state_dict=steps, options=options)
    assert sharpening.step_count == 2
    assert sharpnesses(fresh) == pytest.approx([scheduled(2)] * 2)
    train(fresh, its_optimizer, data[2:])
    assert distance(state(fresh), state(model)) == 0


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_reading_the_state_before_the_first_step_is_no_step(momentum):
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=momentum)
    sharpening = Sharpening(optimizer, model, steps=STEPS)
    get_state_dict(model, optimizer)
    assert sharpening.step_count == 0
    assert sharpnesses(model) == pytest.approx([scheduled(0)] * 2)


def test_saving_an_optimizer_that_keeps_no_state_is_no_step():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sharpening = Sharpening(optimizer, model, steps=STEPS)
    train(model, optimizer, batches(2))
    optimizer.zero_grad()
    get_state_dict(model, optimizer)
    assert sharpening.step_count == 2
