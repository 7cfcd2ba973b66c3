"""Turning heads in photos."""
