"""Operators' commands: status, retry, corrections, loose texts, doctor."""
