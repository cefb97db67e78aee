"""Questions that the core answers about customers: what would move one of them, and whether groups fare alike."""
