"""`python -m tests.integration.told`: says what it was started with, and waits to be ended."""

import os
import sys
import time

print(sys.argv[1:], dict(os.environ), flush=True)
time.sleep(60)
