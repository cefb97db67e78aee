"""What people who operate workers need: checks, dead letters, erasure, and help for a partition that is stuck."""
