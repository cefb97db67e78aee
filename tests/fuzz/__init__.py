"""Batches that no well-behaved producer would send: every codec and size, and damaged byte by byte on a broker's disk.

`batches` makes and damages them; `million` sends very many through a worker process (`make fuzz`). A short form is
`tests/integration/test_fuzzed_batches.py`.
"""
