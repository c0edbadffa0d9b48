"""Solvers: one file each, named by its file."""
