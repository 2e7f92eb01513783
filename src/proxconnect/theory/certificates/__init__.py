"""Certificates: whether a run inherits the guarantee of ProxConnect."""
