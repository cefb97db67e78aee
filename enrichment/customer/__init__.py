"""One customer: which records are taken, and what is held of them."""
