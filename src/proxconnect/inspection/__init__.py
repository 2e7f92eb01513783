"""Inspection: the bits, bytes and operations of a model, the health of its binary layers, and common problems."""

from proxconnect.inspection.diagnosis import Trouble, diagnose
from proxconnect.inspection.meters import LayerHealth, Meters
from proxconnect.inspection.numbers import LayerSummary, Summary, summary

__all__ = ["LayerHealth", "LayerSummary", "Meters", "Summary", "Trouble", "diagnose", "summary"]
