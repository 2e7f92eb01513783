"""Inspection: what a model is made of, in bits, bytes and operations."""

from proxconnect.inspection.numbers import LayerSummary, Summary, summary

__all__ = ["LayerSummary", "Summary", "summary"]
