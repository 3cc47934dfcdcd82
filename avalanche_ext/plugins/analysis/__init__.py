"""Plugins that measure the model after each experience and change nothing."""
