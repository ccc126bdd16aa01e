"""Worlds: control of simulated machines, and learning across environments."""
