"""Prices on their way from the bus to those who listen."""
