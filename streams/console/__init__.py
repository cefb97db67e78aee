"""What every command shares on the terminal: escaped text, progress, and the account of refused records."""
