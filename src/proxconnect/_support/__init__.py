"""Helpers of many rooms: files, argument checks, text, optional packages, processes. Not public."""
