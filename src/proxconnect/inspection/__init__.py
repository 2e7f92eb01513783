"""Inspection: what a model is made of, in bits, bytes and operations, and how its binary layers fare in training."""

from proxconnect.inspection.meters import LayerHealth, Meters
from proxconnect.inspection.numbers import LayerSummary, Summary, summary

__all__ = ["LayerHealth", "LayerSummary", "Meters", "Summary", "summary"]
