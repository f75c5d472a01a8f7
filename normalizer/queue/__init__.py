"""The queue: one ARQ job per appointment, claimed in groups, settled one by one."""
