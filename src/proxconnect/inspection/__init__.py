"""Inspection: what a model is made of, in bits, bytes and operations."""

from proxconnect.inspection.summary import LayerSummary, Summary, summary

__all__ = ["LayerSummary", "Summary", "summary"]
