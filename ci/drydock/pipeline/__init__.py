"""The orders: what a run, a verification, a promotion, a new scan or a reproduction does, step by step."""
