"""Agents that use graphical interfaces."""
