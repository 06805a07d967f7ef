"""A policy in another process or on another computer, asked over a WebSocket."""
