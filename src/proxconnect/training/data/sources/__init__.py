"""Readers of data sets, none of which trusts a file."""
