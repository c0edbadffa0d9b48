"""Solvers: power grids."""
