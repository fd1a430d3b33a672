"""Keeps one connection to each Financial Modeling Prep socket and publishes prices."""
