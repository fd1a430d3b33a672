"""Looks at a deployment from outside, as a client and as an operator would."""
