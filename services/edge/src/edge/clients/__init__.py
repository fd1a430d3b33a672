"""What all WebSocket clients have in common: their sockets, their turn, their end."""
