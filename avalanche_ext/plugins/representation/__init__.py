"""Methods that add a loss on hidden representations."""
