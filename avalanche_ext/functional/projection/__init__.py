"""Gradient projections that keep earlier losses from rising (GEM, A-GEM) or outputs fixed (OGD)."""
