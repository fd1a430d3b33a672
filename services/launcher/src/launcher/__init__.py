"""Runs the whole of feedmesh on one machine, for `make run`."""
