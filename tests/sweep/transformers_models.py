"""Architectures of transformers, built from tiny random configurations."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers.models.falcon.modeling_falcon import FalconLinear

from sweep.subject import Subject

WIDTH, HEADS, LAYERS, WORDS, LABELS = 32, 2, 2, 64, 5
TEXT = {
    "vocab_size": WORDS, "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
    "intermediate_size": 48, "max_position_embeddings": 32,
}  # fmt: skip
IMAGE = {
    "image_size": 32, "patch_size": 8, "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
    "intermediate_size": 48, "num_labels": LABELS,
}  # fmt: skip
SPEECH = {
    "vocab_size": WORDS, "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
    "intermediate_size": 48, "conv_dim": (16, 16), "conv_stride": (5, 2), "conv_kernel": (10, 3),
    "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2, "layerdrop": 0.0, "mask_time_prob": 0.0,
    "num_feat_extract_layers": 2,
}  # fmt: skip


def sentence() -> dict[str, Tensor]:
    return {"input_ids": torch.randint(3, WORDS, (2, 9))}


def translation() -> dict[str, Tensor]:
    return {"input_ids": torch.randint(3, WORDS, (2, 9)), "decoder_input_ids": torch.randint(3, WORDS, (2, 5))}


def image(size: int = 32) -> dict[str, Tensor]:
    return {"pixel_values": torch.randn(2, 3, size, size)}


def wave() -> dict[str, Tensor]:
    return {"input_values": torch.randn(2, 1200)}


def captioned() -> dict[str, Tensor]:
    return sentence() | image()


def spectrogram() -> dict[str, Tensor]:
    return {"input_features": torch.randn(2, 16, 64), "decoder_input_ids": torch.randint(3, WORDS, (2, 5))}


def of(model: str, config: str, example: Callable[[], Any], options: Any = None, **sizes: Any) -> Subject:
    def build() -> nn.Module:
        return getattr(transformers, model)(getattr(transformers, config)(**sizes))

    return Subject(build, example, options=options or {})


def bert_like(name: str, **sizes: Any) -> Subject:
    return of(f"{name}ForSequenceClassification", f"{name}Config", sentence, **{**TEXT, "num_labels": LABELS, **sizes})


def llama_like(name: str, **sizes: Any) -> Subject:
    sizes = {**TEXT, "num_key_value_heads": 1, "pad_token_id": 0, **sizes}
    return of(f"{name}ForCausalLM", f"{name}Config", sentence, **sizes)


def vit_like(name: str, **sizes: Any) -> Subject:
    return of(f"{name}ForImageClassification", f"{name}Config", image, **{**IMAGE, **sizes})


def speech_like(name: str, **sizes: Any) -> Subject:
    return of(f"{name}ForCTC", f"{name}Config", wave, **{**SPEECH, **sizes})


def clip() -> nn.Module:
    text = {key: value for key, value in TEXT.items() if key != "vocab_size"} | {"vocab_size": WORDS, "eos_token_id": 2}
    vision = {key: value for key, value in IMAGE.items() if key != "num_labels"}
    return transformers.CLIPModel(transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=16))


T5 = {"vocab_size": WORDS, "d_model": WIDTH, "d_kv": 16, "d_ff": 48, "num_layers": LAYERS, "num_heads": HEADS}
BART = {
    "vocab_size": WORDS, "d_model": WIDTH, "encoder_layers": LAYERS, "decoder_layers": LAYERS,
    "encoder_attention_heads": HEADS, "decoder_attention_heads": HEADS, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48,
    "max_position_embeddings": 32,
}  # fmt: skip
WHISPER = {**BART, "num_mel_bins": 16, "max_source_positions": 32, "max_target_positions": 32, "pad_token_id": 0,
           "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}  # fmt: skip

MODELS: dict[str, Subject] = {
    # Encoders of text.
    "BERT": bert_like("Bert"),
    "RoBERTa": bert_like("Roberta", max_position_embeddings=40),
    "ALBERT": bert_like("Albert", embedding_size=16),
    "ELECTRA": bert_like("Electra", embedding_size=16),
    "DeBERTa-v2": bert_like("DebertaV2"),
    "MPNet": bert_like("MPNet", max_position_embeddings=40),
    "MobileBERT": bert_like(
        "MobileBert", intra_bottleneck_size=16, embedding_size=16, true_hidden_size=16, num_feedforward_networks=2
    ),
    "DistilBERT": of(
        "DistilBertForSequenceClassification", "DistilBertConfig", sentence, vocab_size=WORDS, dim=WIDTH,
        n_layers=LAYERS, n_heads=HEADS, hidden_dim=48, max_position_embeddings=32, num_labels=LABELS,
    ),
    "ModernBERT": bert_like("ModernBert", pad_token_id=0),
    # Decoders of text.
    "GPT-2": of("GPT2LMHeadModel", "GPT2Config", sentence, vocab_size=WORDS, n_positions=32, n_embd=WIDTH,
                n_layer=LAYERS, n_head=HEADS, bos_token_id=0, eos_token_id=0),
    "GPT-NeoX": of("GPTNeoXForCausalLM", "GPTNeoXConfig", sentence, **TEXT),
    "OPT": of("OPTForCausalLM", "OPTConfig", sentence, vocab_size=WORDS, hidden_size=WIDTH, num_hidden_layers=LAYERS,
              num_attention_heads=HEADS, ffn_dim=48, max_position_embeddings=32, word_embed_proj_dim=WIDTH),
    "BLOOM": of("BloomForCausalLM", "BloomConfig", sentence, vocab_size=WORDS, hidden_size=WIDTH, n_layer=LAYERS,
                n_head=HEADS),
    "LLaMA": llama_like("Llama"),
    "Mistral": llama_like("Mistral"),
    "Qwen2": llama_like("Qwen2"),
    "Gemma": llama_like("Gemma", head_dim=16),
    "Phi": llama_like("Phi"),
    "Falcon": of(
        "FalconForCausalLM", "FalconConfig", sentence, {"include": FalconLinear}, vocab_size=WORDS, hidden_size=WIDTH,
        num_hidden_layers=LAYERS, num_attention_heads=HEADS,
    ),
    # Mixtures of experts and state spaces.
    "Mixtral": llama_like("Mixtral", num_local_experts=4, num_experts_per_tok=2),
    "OLMoE": llama_like("Olmoe", num_experts=4, num_experts_per_tok=2),
    "Mamba": of("MambaForCausalLM", "MambaConfig", sentence, vocab_size=WORDS, hidden_size=WIDTH, state_size=4,
                num_hidden_layers=LAYERS),
    # Encoders and decoders.
    "T5": of("T5ForConditionalGeneration", "T5Config", translation, **T5),
    "BART": of("BartForConditionalGeneration", "BartConfig", translation, **BART),
    "Whisper": of("WhisperForConditionalGeneration", "WhisperConfig", spectrogram, **WHISPER),
    # Vision.
    "ViT": vit_like("ViT"),
    "DeiT": vit_like("DeiT"),
    "BEiT": vit_like("Beit"),
    "DINOv2": vit_like("Dinov2"),
    "Swin": of("SwinForImageClassification", "SwinConfig", image, image_size=32, patch_size=4, embed_dim=16,
               depths=[1, 1], num_heads=[2, 2], window_size=4, num_labels=LABELS),
    "ConvNeXt": of("ConvNextForImageClassification", "ConvNextConfig", image, hidden_sizes=[16, 16, 32, 32],
                   depths=[1, 1, 1, 1], num_labels=LABELS),
    "SegFormer": of("SegformerForSemanticSegmentation", "SegformerConfig", partial(image, 64),
                    hidden_sizes=[16, 16, 32, 32], depths=[1, 1, 1, 1], num_attention_heads=[1, 1, 2, 2],
                    decoder_hidden_size=16, num_labels=LABELS),
    # Images and text, speech.
    "CLIP": Subject(clip, captioned),
    "wav2vec 2": speech_like("Wav2Vec2"),
    "HuBERT": speech_like("Hubert"),
}  # fmt: skip
