"""Segment changes on their way to other tools, over HTTP: who belongs to which audience, with consent only.

`outputs_file` says what is wanted, `steps` what a change means to an output, `segment` and `webhook` how it is said,
`sender` how it gets there, and `delivering` runs it all.
"""
