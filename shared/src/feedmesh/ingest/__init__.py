"""What every ingest does, whatever its feed."""
