"""Differential equations: fields and their derivatives, domains, conditions, and how they are read."""
