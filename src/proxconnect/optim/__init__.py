"""Attachments to an optimizer: schedules of μ, update rules, Bop, the clamp of latents, the overflow penalty."""

from proxconnect.optim.bop import Bop
from proxconnect.optim.latents import clip_latents
from proxconnect.optim.overflow_penalty import OverflowPenalty
from proxconnect.optim.sharpening import Sharpening
from proxconnect.optim.update_rules import UpdateRule, post_training, proxquant, reverse_proxconnect

__all__ = [
    "Bop",
    "OverflowPenalty",
    "Sharpening",
    "UpdateRule",
    "clip_latents",
    "post_training",
    "proxquant",
    "reverse_proxconnect",
]
