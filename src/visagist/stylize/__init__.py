"""Repainting photos in the manner of a painting."""
