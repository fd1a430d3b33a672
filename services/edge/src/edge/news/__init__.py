"""The news log as clients read it."""
