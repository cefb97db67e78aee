"""Tables and logs from files to frames: what `ebbtide.analyze` and `ebbtide.replay` give to programs and commands."""
