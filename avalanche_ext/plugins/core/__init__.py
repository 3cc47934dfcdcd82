"""What all plugins share."""
