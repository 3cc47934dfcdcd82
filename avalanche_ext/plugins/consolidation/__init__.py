"""Methods that hold parameters in place by a quadratic penalty: EWC and its kin."""
