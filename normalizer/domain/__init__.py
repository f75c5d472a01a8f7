"""Addresses and documents, and the rules that read them. Pure: no I/O, no third-party client."""
