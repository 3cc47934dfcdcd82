"""Fisher information: its diagonal, its spectrum, and the penalties made of them."""
