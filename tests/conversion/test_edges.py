"""Edges by data flow, against graph search on random networks and by hand on known ones."""

from dataclasses import dataclass

import pytest
import timm
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from proxconnect.conversion import plan

SEES, MAKES = "edge: sees the raw input", "edge: makes an output"


def edges(model: nn.Module, example: object = None, **options) -> dict[str, str]:
    floats = plan(model, example=example, **options).floats
    return {name: reason for name, reason in floats.items() if reason.startswith("edge")}


def by_flow(model: nn.Module, example: object) -> tuple[set[str], set[str]]:
    found = edges(model, example)
    return {n for n, r in found.items() if r == SEES}, {n for n, r in found.items() if r == MAKES}


@dataclass(frozen=True)
class Node:
    """One step of a random network: `layer` (None: no layer) on the sum of what `inputs` made, joined in some way."""

    layer: int | None
    inputs: tuple[int, ...]
    join: str
    bypass: bool


class Network(nn.Module):
    """Runs its nodes in order; value 0 is the input, node i makes value i + 1."""

    def __init__(self, nodes: list[Node], outputs: list[int]):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(3, 3) for _ in range(4))
        self.nodes, self.outputs = nodes, outputs

    def forward(self, x):
        values = [x]
        for node in self.nodes:
            value = self.joined(node.join, [values[i] for i in node.inputs])
            if node.layer is not None and node.bypass:
                value = functional.linear(value, self.layers[node.layer].weight.t().contiguous().t())
            elif node.layer is not None:
                value = self.layers[node.layer](value)
            values.append(value)
        return {"list": [values[i] for i in self.outputs], "nothing": None}

    @staticmethod
    def joined(how: str, values: list[torch.Tensor]) -> torch.Tensor:
        if how == "in place":
            total = torch.zeros_like(values[0])
            for value in values:
                total.add_(value).relu_()
        elif how == "buffer":
            buffer = torch.empty(len(values), *values[0].shape)
            for i, value in enumerate(values):
                buffer[i] = value
            total = buffer.sum(0)
        elif how == "cat":
            total = torch.cat(values, -1).view(-1, len(values), 3).softmax(-1)[:, 0]
        else:
            total = torch.stack(values).mean(0)
        return total


@st.composite
def networks(draw) -> tuple[list[Node], list[int]]:
    nodes = []
    for i in range(draw(st.integers(1, 8))):
        inputs = draw(st.sets(st.integers(0, i), min_size=1, max_size=3))
        layer = draw(st.none() | st.integers(0, 3))
        join = draw(st.sampled_from(["in place", "buffer", "cat", "stack"]))
        nodes.append(Node(layer, tuple(sorted(inputs)), join, draw(st.booleans())))
    outputs = draw(st.sets(st.integers(1, len(nodes)), min_size=1, max_size=3))
    return nodes, sorted(outputs)


def searched(nodes: list[Node], outputs: list[int]) -> tuple[set[str], set[str]]:
    """The edges by search in the graph, from their definition: a call is a node that has a layer."""
    upstream = [set()]
    for i, node in enumerate(nodes):
        calls = set().union(*(upstream[j] | ({j - 1} if j and nodes[j - 1].layer is not None else set())
                              for j in node.inputs))  # fmt: skip
        upstream.append(calls)
        assert i == len(upstream) - 2
    first = {f"layers.{n.layer}" for i, n in enumerate(nodes) if n.layer is not None and not upstream[i + 1]}
    last = set()
    for output in outputs:
        ancestors = upstream[output] | ({output - 1} if nodes[output - 1].layer is not None else set())
        for call in ancestors:
            if not any(call in upstream[other + 1] for other in ancestors):
                last.add(f"layers.{nodes[call].layer}")
    return first, last


@given(networks())
def test_random_networks_agree_with_graph_search(network):
    nodes, outputs = network
    model = Network(nodes, outputs)
    first, last = searched(nodes, outputs)
    found = edges(model, torch.randn(2, 3))
    assert set(found) == first | last
    assert {name for name, reason in found.items() if reason == MAKES} == last


IMAGE = torch.randn(1, 3, 64, 64)


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("resnet18", "conv1", "fc"),
        ("mobilenet_v3_small", "features.0.0", "classifier.3"),
        ("mnasnet0_5", "layers.0", "classifier.1"),
        ("swin_t", "features.0.0", "head"),
        ("swin_v2_t", "features.0.0", "head"),
        ("densenet121", "features.conv0", "classifier"),
        ("shufflenet_v2_x0_5", "conv1.0", "fc"),
    ],
)
def test_classifiers_have_two_edges_with_example_and_without(name, first, last):
    model = getattr(torchvision.models, name)()
    assert by_flow(model, IMAGE) == ({first}, {last})
    assert set(edges(model)) == {first, last}


def test_a_vision_transformer_has_two_edges():
    model = torchvision.models.VisionTransformer(32, 8, 2, 4, 16, 32, num_classes=5)
    assert by_flow(model, torch.randn(1, 3, 32, 32)) == ({"conv_proj"}, {"heads.head"})


def test_segmentation_keeps_both_heads():
    model = torchvision.models.segmentation.deeplabv3_mobilenet_v3_large(
        weights=None, weights_backbone=None, aux_loss=True
    )
    assert by_flow(model, IMAGE) == ({"backbone.0.0"}, {"classifier.4", "aux_classifier.4"})


def test_detection_keeps_its_predictors():
    build = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn
    model = build(weights=None, weights_backbone=None, min_size=64, max_size=64)
    expected = {"roi_heads.box_predictor.cls_score", "roi_heads.box_predictor.bbox_pred"}
    assert by_flow(model, ([IMAGE[0]],)) == ({"backbone.body.0.0"}, expected)
    assert by_flow(model, [IMAGE[0]]) == ({"backbone.body.0.0"}, expected)


def test_a_headless_residual_network_keeps_only_its_last_layer():
    model = torchvision.models.resnet18()
    model.fc = nn.Identity()
    assert by_flow(model, IMAGE) == ({"conv1"}, {"layer4.1.conv2"})


def test_an_attention_layer_that_is_bypassed_counts():
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    assert by_flow(model, torch.randn(1, 5, 8)) == ({"self_attn"}, {"linear2"})


class Language(nn.Module):
    def __init__(self):
        super().__init__()
        self.position, self.embed = nn.Embedding(9, 4), nn.Embedding(9, 4)
        self.body, self.head = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)), nn.Linear(4, 9)

    def forward(self, ids):
        return self.head(self.body(self.embed(ids) + self.position(torch.arange(ids.shape[1]))))


def test_after_an_embedding_of_the_input_no_layer_sees_it():
    ids = torch.randint(9, (1, 5))
    assert edges(Language(), ids) == {"head": MAKES}
    assert set(edges(Language())) == {"head"}


def test_an_embedding_of_positions_hides_nothing():
    class Signal(Language):
        def forward(self, x):
            return self.head(self.body(x + self.position(torch.arange(x.shape[1]))))

    assert edges(Signal(), torch.randn(1, 5, 4)) == {"body.0": SEES, "head": MAKES}


def test_layers_that_do_not_see_the_input_are_no_input_edges():
    """As the bias networks of Swin v2 and learned queries: they have no layer upstream either."""

    class Query(nn.Module):
        def __init__(self):
            super().__init__()
            self.key, self.query, self.out = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
            self.learned = nn.Parameter(torch.randn(2, 4))

        def forward(self, x):
            return self.out(self.query(self.learned) @ self.key(x).mT)

    assert edges(Query(), torch.randn(1, 4, 4)) == {"key": SEES, "out": MAKES}


def test_cached_keys_and_hidden_states_are_no_outputs():
    class Result(dict):
        pass

    class Model(nn.Sequential):
        def forward(self, x):
            hidden = self[0](x)
            return Result(logits=self[2](self[1](hidden)), past_key_values=[(hidden,)], hidden_states=(hidden,))

    assert edges(Model(*(nn.Linear(4, 4) for _ in range(3))), torch.randn(1, 4)) == {"0": SEES, "2": MAKES}


@dataclass
class Boxed:
    tensor: torch.Tensor


def test_inputs_and_outputs_may_be_nested_objects():
    class Model(nn.Sequential):
        def forward(self, *, boxed, extra=None):
            out = self[0](boxed.tensor)
            return [Boxed(self[1](out)), {"aux": (None, "text")}, {"b": {(self[2](out),)}}]

    model = Model(*(nn.Linear(4, 4) for _ in range(3)))
    assert by_flow(model, {"boxed": Boxed(torch.randn(1, 4))}) == ({"0"}, {"1", "2"})


def test_a_tuple_holds_positional_arguments():
    class Two(nn.Sequential):
        def forward(self, a, b):
            return self[2](self[0](a) + self[1](b))

    model = Two(*(nn.Linear(4, 4) for _ in range(3)))
    assert by_flow(model, (torch.randn(1, 4), torch.randn(1, 4))) == ({"0", "1"}, {"2"})


def test_a_model_on_the_meta_device_is_traced():
    with torch.device("meta"):
        model = torchvision.models.resnet18()
    assert by_flow(model, IMAGE) == ({"conv1"}, {"fc"})


def test_parameters_that_share_their_memory_are_told_apart():
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(3)))
    vector = nn.utils.parameters_to_vector(model.parameters()).detach()
    nn.utils.vector_to_parameters(vector, model.parameters())
    assert by_flow(model, torch.randn(1, 4)) == ({"0"}, {"2"})


def test_one_module_under_two_names_as_in_coat():
    class Block(nn.Module):
        def __init__(self, shared):
            super().__init__()
            self.shared, self.mlp = shared, nn.Linear(4, 4)

        def forward(self, x):
            return self.mlp(self.shared(x))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.shared, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
            self.blocks = nn.ModuleList(Block(self.shared) for _ in range(2))

        def forward(self, x):
            x = self.stem(x)
            for block in self.blocks:
                x = block(x)
            return self.head(x)

    assert by_flow(Model(), torch.randn(1, 4)) == ({"stem"}, {"head"})


def test_without_example_the_model_names_its_heads():
    class Named(nn.Sequential):
        def get_classifier(self):
            return self[1], self[2]

    assert set(edges(Named(*(nn.Linear(4, 4) for _ in range(5))))) == {"0", "1", "2", "4"}

    class Spoken(nn.Sequential):
        def get_output_embeddings(self):
            return self[1]

        def get_classifier(self, name):
            return name

    assert set(edges(Spoken(*(nn.Linear(4, 4) for _ in range(4))))) == {"0", "1", "3"}


def test_timm_models():
    model = timm.create_model("deit_tiny_distilled_patch16_224", img_size=32, depth=2)
    assert by_flow(model, torch.randn(1, 3, 32, 32)) == ({"patch_embed.proj"}, {"head", "head_dist"})
    assert set(edges(model)) == {"patch_embed.proj", "head", "head_dist"}
    model = timm.create_model("coat_lite_tiny", img_size=32)
    assert by_flow(model, torch.randn(1, 3, 32, 32)) == ({"patch_embed1.proj"}, {"head"})
