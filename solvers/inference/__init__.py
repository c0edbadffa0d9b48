"""Solvers: likelihood-free inference."""
