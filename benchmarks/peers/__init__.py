"""Who is compared: other ways to do the same work, each in its best honest form and as a process of its own.

They read the same records, ask the same provider and write the same fields as the worker does, with the libraries
people use for it. What none of them has is what the comparison is about: a cache, rules, grounding, groups cut at the
worker.
"""
