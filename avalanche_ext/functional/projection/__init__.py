"""Projection of a gradient, so that no earlier loss rises (GEM, A-GEM) or output changes (OGD)."""
