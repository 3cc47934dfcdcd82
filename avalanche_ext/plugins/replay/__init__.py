"""Methods that replay samples from a memory."""
