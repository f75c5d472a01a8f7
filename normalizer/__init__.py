"""Batch-aware normalization of Brazilian addresses and patient documents."""
