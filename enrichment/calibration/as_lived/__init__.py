"""What a replay's changes came to after the cut, beside rules that need no model; `live_through` leads."""
