"""What holds for every test: properties are tried on the same cases each time, and in fp32.

`make test` decides whether a change lands, so two runs on one tree must agree. A random search is the way to
find new cases, and it has a command of its own, `make fuzz`; what it finds becomes a test with numbers.

Where a CPU multiplies bf16, ``precision: auto`` is bf16, whose sums agree to two digits. Tests hold numbers
to six, so `auto` means fp32 here, in the processes that tests start as well; bf16 has tests that name it.
"""

import os

from hypothesis import settings

settings.register_profile("steady", derandomize=True)
settings.register_profile("search", derandomize=False, print_blob=True)
settings.load_profile("steady")
os.environ["TEXTRL_PRECISION"] = "fp32"
