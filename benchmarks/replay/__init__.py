"""Replay of recordings: the same hash every time, speed, memory."""
