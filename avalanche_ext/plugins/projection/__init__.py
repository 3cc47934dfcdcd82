"""Methods that project the gradient: GEM, modular GEM and A-GEM."""
