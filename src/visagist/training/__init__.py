"""The training ground: it is handed a recipe and some items and knows nothing of any paper. Nothing at inference time imports it.

Read `loop.py` first, then `ledger.py` (what a run folder holds) and `evaluate.py`.
"""
