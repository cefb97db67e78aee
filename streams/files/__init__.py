"""Files that people bring: however they are compressed, whatever kind of table they hold."""
