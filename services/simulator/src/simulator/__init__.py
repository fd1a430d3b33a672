"""Stands in for Financial Modeling Prep and LS Securities, faults included."""
