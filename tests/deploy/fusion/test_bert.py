"""BERT of transformers, whose attention takes **kwargs and looks its function up in a table, as one graph."""

import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel

import proxconnect as pc
from proxconnect.deploy.fusion import layer_by_layer
from proxconnect.deploy.fusion.graph_modules import graph_forward

pytestmark = pytest.mark.skipif(not pc.kernels.is_built(), reason="the kernels were not built")

CONFIG = BertConfig(vocab_size=32, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48)
IDS = torch.randint(32, (2, 9), generator=torch.Generator().manual_seed(0))


class Sentences(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bert = BertModel(CONFIG, add_pooling_layer=False)

    def forward(self, ids: Tensor) -> Tensor:
        return self.bert(ids).last_hidden_state


def packed(model: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return pc.pack(pc.binarize(model, "bnn++", None, keep=()).eval().requires_grad_(False))


def test_a_model_around_it_is_one_graph():
    model = packed(Sentences())
    (region,) = model.packing.fusion.regions
    assert (region.name, region.counts["binary layers"]) == ("", 12)
    before = model(IDS)
    model.bert.encoder.layer[1].attention.self.scaling = 2.0
    model.bert.encoder.layer[0].output.LayerNorm.eps = 0.1
    for ids in (IDS, IDS[:1], IDS[:, :5], IDS[:, :1]):
        with layer_by_layer(model):
            expected = model(ids)
        torch.testing.assert_close(model(ids), expected, rtol=1e-4, atol=1e-5)
    assert not torch.equal(model(IDS), before)


def test_its_encoder_has_a_graph_with_and_without_a_mask():
    model = packed(BertModel(CONFIG, add_pooling_layer=False))
    assert [region.name for region in model.packing.fusion.regions] == ["encoder"]
    for mask in (torch.ones(2, 9), torch.ones(2, 9).tril(6), torch.ones(2, 9, 9).tril()[:, None].bool()):
        with layer_by_layer(model):
            expected = model(IDS, attention_mask=mask)
        answer = model(IDS, attention_mask=mask)
        assert type(answer) is type(expected)
        torch.testing.assert_close(answer[0], expected[0], rtol=1e-4, atol=1e-5)
    graphs = graph_forward(model.encoder)._by_kind
    assert [kind.inputs for kind in graphs] == [("hidden_states",), ("attention_mask", "hidden_states")]
    assert all(graph is not None and graph._is_checked for graph in graphs.values())
