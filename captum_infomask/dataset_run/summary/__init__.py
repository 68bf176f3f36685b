# A run → what its page shows.
