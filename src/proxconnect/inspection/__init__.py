"""Inspection: what a model is made of, in bits, bytes and operations, how its binary layers fare in training, and what
goes wrong.
"""

from proxconnect.inspection.diagnosis import Trouble, diagnose
from proxconnect.inspection.meters import LayerHealth, Meters
from proxconnect.inspection.numbers import LayerSummary, Summary, summary

__all__ = ["LayerHealth", "LayerSummary", "Meters", "Summary", "Trouble", "diagnose", "summary"]
