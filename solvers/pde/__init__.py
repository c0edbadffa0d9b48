"""Solvers: partial differential equations."""
