"""What goes over the wire: the records Ebbtide reads and writes, and the documents made from them.

This is the lowest layer: it imports neither ``enrichment`` nor ``streams``.
"""
