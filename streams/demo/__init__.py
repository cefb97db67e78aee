"""The demo: real data through an embedded broker and Redis."""
