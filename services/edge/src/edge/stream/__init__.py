"""Protocol v3, one WebSocket for everything."""
