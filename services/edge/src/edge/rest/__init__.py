"""The REST answers."""
