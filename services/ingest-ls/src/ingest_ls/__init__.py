"""Keeps one connection to LS Securities and publishes Korean news and prices."""
