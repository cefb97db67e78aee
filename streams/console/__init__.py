"""What commands say to people: safe text, progress, and which records were refused."""
