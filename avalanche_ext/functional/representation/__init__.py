"""Losses and measures on hidden representations and gradients."""
