"""Conversion: which layers of a float model become binary, which stay float and why."""

from proxconnect.conversion.convert import binarize, plan
from proxconnect.conversion.table import Plan, Row

__all__ = ["Plan", "Row", "binarize", "plan"]
