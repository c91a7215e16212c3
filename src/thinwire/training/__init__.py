"""What the jobs under train/ call."""
