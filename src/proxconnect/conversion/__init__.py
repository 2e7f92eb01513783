"""Conversion of float models: the layers that become binary, those that stay float, and why."""

from proxconnect.conversion.convert import binarize, plan
from proxconnect.conversion.table import Plan, Row

__all__ = ["Plan", "Row", "binarize", "plan"]
