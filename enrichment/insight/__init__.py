"""Questions about customers that the core can answer: what would move them, and how groups fare."""
