"""Weights files: networks as safetensors, each with a card beside it that says what they are."""
