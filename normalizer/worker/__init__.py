"""The application of queue, model and store: one group of appointments from claim to settled jobs."""
