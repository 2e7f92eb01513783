"""Helpers that many rooms use: files, argument checks, text, optional packages, processes. Not public."""
