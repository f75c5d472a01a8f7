"""One batched model call and what guards it."""
