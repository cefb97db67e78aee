"""``ebbtide demo``: a real data set through the real worker, on an embedded broker and Redis."""
