"""Gradients of single samples: exact rules for known layers, vmap or a loop for the others."""
