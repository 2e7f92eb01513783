"""Verdicts: whether a pair is legitimate, and why."""
