"""Conversion: which layers of a float model become binary, which stay float and why."""

from proxconnect.conversion.binarize import binarize, plan
from proxconnect.conversion.plan import Plan, Row

__all__ = ["Plan", "Row", "binarize", "plan"]
