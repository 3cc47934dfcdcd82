"""Methods that project the gradient: GEM, modular GEM, A-GEM and OGD."""
