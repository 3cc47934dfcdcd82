"""Projection of a gradient onto the cone in which no earlier task's loss rises (GEM, A-GEM)."""
