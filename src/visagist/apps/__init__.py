"""The ways in: command line and batches. No mathematics here."""
