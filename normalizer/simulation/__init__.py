"""Stand-ins for demo, tests and benchmarks: embedded services, a simulated provider, generated sheets.

Nothing of a deployed worker imports it, and wherever it serves the output says "simulated".
"""
