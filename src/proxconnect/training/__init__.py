"""Training on real data: data sets, models, and runs of recipes by Lightning; distillation for any training loop."""

from proxconnect.training.distillation import Distillation

__all__ = ["Distillation"]
