"""The two older WebSocket contracts."""
