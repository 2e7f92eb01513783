"""Small random networks of torchvision, timm, transformers and plain torch, each with an input and what to expect."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import timm
import torch
import torchvision
import transformers
from torch import Tensor, nn
from torchvision.models.video import resnet

from proxconnect import binarize_parameter

RAW, OUTPUT = "edge: sees the raw input", "edge: makes an output"


def binarize_no_more(model: nn.Module) -> None:
    """All is binary that `binarize` made so."""


@dataclass(frozen=True)
class Network:
    """How to build a float network, and what `binarize` leaves float of it."""

    build: Callable[[], nn.Module]
    example: Callable[[], Any]
    edges: Mapping[str, str]
    """The layers that stay float as edges, with the reason."""
    without_form: tuple[str, ...] = ()
    """The modules with weights that stay float for any other reason."""
    bypassed: tuple[str, ...] = ()
    """The layers whose input stays float, because other code takes their weight."""
    has_unstored_buffers: bool = False
    """Whether it has buffers that no file holds, for which it is refused on the meta device."""
    attends_by_torch: bool = False
    """Whether it has an `nn.MultiheadAttention`, whose own products are ordered and fused otherwise."""
    signed: Callable[[nn.Module], nn.Module] = lambda model: model
    """Its form for binary inputs."""
    binarize_more: Callable[[nn.Module], None] = binarize_no_more
    """What follows `binarize`."""


class UNet(nn.Module):
    """One level down and, by a transposed convolution, up again, with a skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.down = nn.Sequential(nn.BatchNorm2d(16), nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32))
        self.bottom = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1, groups=2), nn.BatchNorm2d(32))
        self.up = nn.ConvTranspose2d(32, 16, 2, stride=2, groups=2)
        self.merge = nn.Sequential(nn.BatchNorm2d(32), nn.Conv2d(32, 16, 3, padding=1), nn.PReLU())
        self.head = nn.Conv2d(16, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        skip = self.stem(image)
        return self.head(self.merge(torch.cat([skip, self.up(self.bottom(self.down(skip)))], 1)))


class Wave(nn.Module):
    """Strided 1-d convolutions and a positional one by groups, as wav2vec 2 begins."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(self.block(1, 10, 5), self.block(32, 3, 2), self.block(32, 2, 2))
        self.position = nn.Conv1d(32, 32, 5, padding="same", groups=4)
        self.head = nn.Linear(32, 5)

    @staticmethod
    def block(channels: int, kernel: int, stride: int) -> nn.Module:
        return nn.Sequential(nn.Conv1d(channels, 32, kernel, stride, bias=False), nn.GroupNorm(32, 32), nn.GELU())

    def forward(self, wave: Tensor) -> Tensor:
        hidden = self.features(wave)
        return self.head((hidden + self.position(hidden)).transpose(1, 2))


class Translator(nn.Module):
    """`nn.Transformer` between embeddings and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 16)
        self.transformer = nn.Transformer(16, 2, 1, 2, 32, dropout=0.0, activation="gelu", batch_first=True)
        self.head = nn.Linear(16, 11)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1], device=target.device)
        return self.head(self.transformer(self.embedding(source), self.embedding(target), tgt_mask=mask))


def r3d() -> nn.Module:
    """R3D-18 of one block a stage, without the stage that holds three quarters of the weights."""
    stages, blocks = [resnet.Conv3DSimple] * 4, [1] * 4
    model = resnet.VideoResNet(resnet.BasicBlock, stages, blocks, resnet.BasicStem)
    model.layer4, model.fc = nn.Identity(), nn.Linear(256, 5)
    return model


def with_prelu(model: nn.Module) -> nn.Module:
    """PReLU for each ReLU, which leaves one sign only."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.ReLU):
                setattr(parent, name, nn.PReLU())
    return model


def binarize_experts(model: nn.Module) -> None:
    """The stacked weights of all experts."""
    for module in list(model.modules()):
        if isinstance(module, transformers.models.mixtral.modeling_mixtral.MixtralExperts):
            for name in ("gate_up_proj", "down_proj"):
                binarize_parameter(module, name, channel_dims=(0, 1))


def images(size: int) -> Callable[[], Tensor]:
    return lambda: torch.randn(2, 3, size, size)


def sentences() -> dict[str, Tensor]:
    return {"input_ids": torch.randint(32, (2, 8))}


def of_timm(name: str, **sizes: Any) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, num_classes=5, **sizes)


SIZES = {
    "vocab_size": 32, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
    "max_position_embeddings": 16,
}  # fmt: skip


def bert() -> nn.Module:
    return transformers.BertForSequenceClassification(transformers.BertConfig(num_labels=5, **SIZES))


def gpt2() -> nn.Module:
    config = transformers.GPT2Config(
        vocab_size=32, n_positions=16, n_embd=24, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    )
    return transformers.GPT2LMHeadModel(config)


def llama() -> nn.Module:
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(num_key_value_heads=1, **SIZES))


def mixtral(experts: str) -> Callable[[], nn.Module]:
    """With the code that multiplies by the stacked weights named `experts`."""

    def build() -> nn.Module:
        config = transformers.MixtralConfig(num_key_value_heads=1, num_local_experts=4, num_experts_per_tok=2, **SIZES)
        model = transformers.MixtralForCausalLM(config)
        model.set_experts_implementation(experts)
        return model

    return build


def of_mixtral(experts: str) -> Network:
    layers = [f"model.layers.{i}.mlp.{name}" for i in range(2) for name in ("gate", "experts")]
    return Network(
        mixtral(experts), sentences, {"lm_head": OUTPUT}, without_form=("model.embed_tokens", *layers),
        has_unstored_buffers=True, binarize_more=binarize_experts,
    )  # fmt: skip


SWIN_BLOCKS = tuple(f"features.{stage}.{block}.attn" for stage in (1, 3) for block in (0, 1))
BERT_EMBEDDINGS = tuple(f"bert.embeddings.{kind}_embeddings" for kind in ("word", "position", "token_type"))

NETWORKS = {
    "ViT": Network(
        lambda: torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=5), images(32),
        {"conv_proj": RAW, "heads.head": OUTPUT}, without_form=("encoder",), attends_by_torch=True,
    ),
    "Swin": Network(
        lambda: torchvision.models.SwinTransformer([4, 4], 16, [2, 2], [2, 2], [4, 4], num_classes=5), images(32),
        {"features.0.0": RAW, "head": OUTPUT}, without_form=SWIN_BLOCKS,
        bypassed=tuple(f"{block}.{name}" for block in SWIN_BLOCKS for name in ("qkv", "proj")),
    ),
    "R3D-18": Network(
        r3d, lambda: torch.randn(2, 3, 4, 16, 16),
        {"stem.0": RAW, "fc": OUTPUT}, signed=with_prelu,
    ),
    "DeiT": Network(
        of_timm("deit_tiny_patch16_224", img_size=32, depth=2, embed_dim=24), images(32),
        {"patch_embed.proj": RAW, "head": OUTPUT}, without_form=("",),
    ),
    "CoaT": Network(
        of_timm("coat_tiny", img_size=32, embed_dims=(16,) * 4, serial_depths=(1,) * 4, parallel_depth=1), images(32),
        {"patch_embed1.proj": RAW, "head": OUTPUT},
    ),
    "EVA-02": Network(
        of_timm("eva02_tiny_patch14_224", img_size=28, depth=2, embed_dim=24, num_heads=2), images(28),
        {"patch_embed.proj": RAW, "head": OUTPUT}, without_form=("",),
        bypassed=("blocks.0.attn.qkv", "blocks.1.attn.qkv"), has_unstored_buffers=True,
    ),
    "BERT": Network(
        bert, sentences, {"classifier": OUTPUT}, without_form=BERT_EMBEDDINGS, has_unstored_buffers=True
    ),
    "GPT-2": Network(
        gpt2, sentences, {}, without_form=("transformer.wte", "transformer.wpe", "lm_head")
    ),
    "LLaMA": Network(
        llama, sentences, {"lm_head": OUTPUT}, without_form=("model.embed_tokens",), has_unstored_buffers=True
    ),
    "Mixtral, looped": of_mixtral("eager"),
    "Mixtral, batched": of_mixtral("batched_mm"),
    "Mixtral, grouped": of_mixtral("grouped_mm"),
    "U-Net": Network(UNet, images(8), {"stem": RAW, "head": OUTPUT}),
    "Wave": Network(Wave, lambda: torch.randn(2, 1, 200), {"features.0.0": RAW, "head": OUTPUT}),
    "nn.Transformer": Network(
        Translator, lambda: (torch.randint(11, (2, 6)), torch.randint(11, (2, 4))), {"head": OUTPUT},
        without_form=("embedding",), attends_by_torch=True,
    ),
}  # fmt: skip
