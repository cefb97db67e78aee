"""Commands for analysts and marketers: profiles, explain, whatif, audit and calibrate."""
