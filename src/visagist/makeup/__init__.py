"""Paint a face: lipstick."""
