"""Logs, metrics, traces and error reports. No patient's text, name or document enters any of them."""
