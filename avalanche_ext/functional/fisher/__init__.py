"""Fisher information: its diagonal, its spectrum, and penalties built from them."""
