"""Sheets in: read, stored and queued; their progress, their undoing, the sheet to correct, and what they will cost."""
